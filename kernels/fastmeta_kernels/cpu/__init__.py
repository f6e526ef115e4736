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
    states: Array,
    support: TaskSet,
    query: TaskSet,
    inner: InnerLoop,
    order: int,
    numbers: Sequence[Numbers],
) -> Array | None:
    """Losses (n, T) of updates of theta (P,) by the meta-gradient of each T tasks of the sets in turn, each a step of
    `adam`; there are fewer than numbers where one is not finite in the next.

    states (n + 1, 3, P): theta and both moments, of which the first are given and the others written. None where such a
    meta-gradient was never computed by itself, or has no inner step.
    """
    theta, count = states[0, 0], len(numbers)
    known = CALLS.seen.of_parts(table, theta, support, query, count, inner, order) if inner.steps else None
    return None if known is None else run_updates(known[0], states, known[1], numbers)
