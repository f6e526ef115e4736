"""The contract on the CPU: Numba kernels over a plan, one task a thread, everything in a cache-resident workspace."""

from __future__ import annotations

from collections.abc import Sequence

from fastmeta_kernels.calls import Calls
from fastmeta_kernels.contract import Array, InnerLoop, TaskSet
from fastmeta_kernels.cpu.execution.adam import Numbers, adam
from fastmeta_kernels.cpu.execution.call import fits, run
from fastmeta_kernels.cpu.execution.kept import keep
from fastmeta_kernels.cpu.execution.threads import thread_count, use_threads
from fastmeta_kernels.cpu.execution.updates import run_updates
from fastmeta_kernels.host import free_bytes, is_own, on_device, on_host
from fastmeta_kernels.layer_table import Table

__all__ = [
    "adam",
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
    "thread_count",
    "updates",
    "use_threads",
]

CALLS = Calls(run, most_steps=1000, fits=fits, sums_blocks=True, keep=keep)
predict, loss, gradient, pullback, hvp = CALLS.predict, CALLS.loss, CALLS.gradient, CALLS.pullback, CALLS.hvp
adapt, meta_gradient, fisher, products = CALLS.adapt, CALLS.meta_gradient, CALLS.fisher, CALLS.products
block_gradients = CALLS.block_gradients
prototype_loss, prototype_gradient = CALLS.prototype_loss, CALLS.prototype_gradient


def updates(
    table: Table,
    theta: Array,
    moments: Sequence[Array],
    sets: Sequence[tuple[TaskSet, TaskSet]],
    inner: InnerLoop,
    order: int,
    numbers: Sequence[Numbers],
) -> tuple[Array, Array] | None:
    """Updates of theta (P,) by the meta-gradient of each support and query set in turn, each a step of `adam`.

    Losses (n, T), and theta and both moments (n, 3, P) after each of n updates, before the first that has a number
    which is not finite. None where such a meta-gradient was never computed by itself, or has no inner step.
    """
    known = CALLS.seen.of_all(table, theta, sets, inner, order) if inner.steps else None
    return None if known is None else run_updates(known[0], theta, moments, known[1], numbers)
