"""The definition: every kernel in NumPy, written like its equation; the other backends agree with it."""

from fastmeta_kernels.reference.blas import ready
from fastmeta_kernels.reference.derivatives import gradient, hvp, loss, predict, pullback
from fastmeta_kernels.reference.inner_loop import adapt, meta_gradient
from fastmeta_kernels.reference.prototypes import prototype_gradient, prototype_loss

__all__ = [
    "adapt",
    "gradient",
    "hvp",
    "loss",
    "meta_gradient",
    "predict",
    "prototype_gradient",
    "prototype_loss",
    "pullback",
    "ready",
]
