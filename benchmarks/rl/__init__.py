"""Whole trainings with rewards: `python -m benchmarks.rl`, see __main__.py."""
