"""A whole meta-gradient of a small MLP in one launch."""
