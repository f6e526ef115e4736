"""The definition: every kernel in NumPy, written like its equation; the other backends agree with it."""

from fastmeta_kernels.reference.derivatives import gradient, hvp, loss, predict
from fastmeta_kernels.reference.inner_loop import adapt, meta_gradient

__all__ = ["adapt", "gradient", "hvp", "loss", "meta_gradient", "predict"]
