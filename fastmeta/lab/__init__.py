"""The meta-gradient laboratory: instruments that look at the inner loop, its gradient and a training."""

from fastmeta.late import attach

__all__, __getattr__, __dir__ = attach(__name__, __file__)
