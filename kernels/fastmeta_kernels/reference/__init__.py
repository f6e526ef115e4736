"""The definition: every kernel in NumPy, written like its equation; the other backends agree with it."""

from fastmeta_kernels.host import free_bytes, is_own, on_device, on_host
from fastmeta_kernels.reference.blas import ready
from fastmeta_kernels.reference.derivatives import fisher, gradient, hvp, loss, predict, products, pullback
from fastmeta_kernels.reference.inner_loop import adapt, block_gradients, meta_gradient
from fastmeta_kernels.reference.prototypes import prototype_gradient, prototype_loss

__all__ = [
    "adapt",
    "block_gradients",
    "fisher",
    "free_bytes",
    "gradient",
    "hvp",
    "is_own",
    "loss",
    "meta_gradient",
    "on_device",
    "on_host",
    "predict",
    "products",
    "prototype_gradient",
    "prototype_loss",
    "pullback",
    "ready",
]
