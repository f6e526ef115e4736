"""Architecture search by the exact gradient through the inner loop."""
