"""The functional layer: one flat vector in, new values out."""
