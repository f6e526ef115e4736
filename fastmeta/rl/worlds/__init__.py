"""Worlds: families of decision problems, vectorised over tasks and trajectories."""
