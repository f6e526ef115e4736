"""Who runs what and when: one call, its threads, one instruction."""
