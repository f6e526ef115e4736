"""Meta-learning with rewards: policies that adapt to a task from a few trajectories."""

from fastmeta.late import attach

__all__, __getattr__, __dir__ = attach(__name__, __file__)
