"""Transfer learning, the baseline: a classifier of all training classes, then a new head."""
