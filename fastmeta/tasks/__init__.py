"""Few-shot tasks: episodes drawn as a pure function of (seed, step). Importing it imports NumPy only."""

from fastmeta.late import attach

__all__, __getattr__, __dir__ = attach(__name__, __file__)
