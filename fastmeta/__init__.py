"""fastmeta: meta-learning without a framework. Exact meta-gradients by hand, in NumPy and Numba."""

from fastmeta.late import attach

__all__, __getattr__, __dir__ = attach(__name__, __file__)
__version__ = "0.1.0"
