"""The contract on the CPU: Numba kernels over a plan, one task a thread, everything in a cache-resident workspace."""

from __future__ import annotations

from fastmeta_kernels.calls import Calls
from fastmeta_kernels.cpu.execution.call import fits, run
from fastmeta_kernels.cpu.execution.kept import keep
from fastmeta_kernels.cpu.execution.threads import thread_count, use_threads
from fastmeta_kernels.host import free_bytes, is_own, on_device, on_host

__all__ = [
    "adapt",
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
    "thread_count",
    "use_threads",
]

CALLS = Calls(run, most_steps=1000, fits=fits, keep=keep)
predict, loss, gradient, pullback, hvp = CALLS.predict, CALLS.loss, CALLS.gradient, CALLS.pullback, CALLS.hvp
adapt, meta_gradient, fisher, products = CALLS.adapt, CALLS.meta_gradient, CALLS.fisher, CALLS.products
prototype_loss, prototype_gradient = CALLS.prototype_loss, CALLS.prototype_gradient
