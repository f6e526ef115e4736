"""Times of fastmeta and of its peers, in one run, on the same inputs, after their gradients have been compared."""
