"""Every kernel: its threads, and how many registers a thread may use in float and in double.

The budgets are checked by compiling for each architecture; a kernel that spills or needs more fails the tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Kernel(NamedTuple):
    """A kernel template; `registers` are the budgets of float and of double."""

    threads: int
    registers: tuple[int, int]


TILES = ((4, 4), (4, 2), (4, 1))  # sums a thread keeps: rows x columns; a block has 16 x 16 threads

JOBS = {"run_jobs<{T}>": Kernel(256, (128, 255))}  # whose blocks may wait for each other: launched all at once
KERNELS = JOBS | {
    "prototype_centres<{T}>": Kernel(128, (40, 48)),
    "prototype_logits<{T}>": Kernel(128, (48, 64)),
    "prototype_query_gradient<{T}>": Kernel(128, (64, 64)),
    "prototype_support_gradient<{T}>": Kernel(128, (64, 64)),
    "mean_over_tasks<{T}>": Kernel(1024, (40, 40)),
    "share<{T}>": Kernel(256, (40, 40)),
    "mlp_meta_gradient<{T}>": Kernel(256, (128, 255)),  # or fewer threads: `Launch.threads`
}


def instances(scalar: str, kernels: Mapping[str, Kernel] = KERNELS) -> tuple[str, ...]:
    """Name expressions of kernels for `scalar`, "float" or "double"."""
    return tuple(name.format(T=scalar) for name in kernels)
