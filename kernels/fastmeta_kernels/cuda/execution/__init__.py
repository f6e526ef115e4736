"""Who runs what and when: one call, its jobs."""
