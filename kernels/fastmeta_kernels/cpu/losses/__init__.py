"""Where a pass turns round."""
