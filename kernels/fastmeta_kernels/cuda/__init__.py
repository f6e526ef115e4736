"""CUDA kernels through CuPy: the same results as `reference`, on an NVIDIA GPU; see README.md.

Arrays may be NumPy's or, already on the device, CuPy's. Results are NumPy's, but that gradients, products and adapted
parameters lie where theta lies.
"""

from __future__ import annotations

from fastmeta_kernels.calls import Calls
from fastmeta_kernels.cuda.execution.call import fits, run
from fastmeta_kernels.cuda.machine import machine
from fastmeta_kernels.cuda.machine.machine import free_bytes, is_own, on_device
from fastmeta_kernels.host import on_host

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

CALLS = Calls(run, most_steps=200, fits=fits)
predict, loss, gradient, pullback, hvp = CALLS.predict, CALLS.loss, CALLS.gradient, CALLS.pullback, CALLS.hvp
adapt, meta_gradient, fisher, products = CALLS.adapt, CALLS.meta_gradient, CALLS.fisher, CALLS.products
block_gradients = CALLS.block_gradients
prototype_loss, prototype_gradient = CALLS.prototype_loss, CALLS.prototype_gradient


def ready() -> None:
    """Raise ModuleNotFoundError without CuPy, DeviceError without a driver or a device that can run the kernels."""
    machine.cupy()
