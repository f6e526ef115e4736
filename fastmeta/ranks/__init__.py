"""One training on many processes: who computes which tasks, and how their sums meet. Transport is MPI's."""
