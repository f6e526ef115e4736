"""Every kernel: its threads, and how many registers a thread may use in float and in double.

The budgets are checked by compiling for each architecture; a kernel that spills or needs more fails the tests.
"""

from __future__ import annotations

from typing import NamedTuple


class Kernel(NamedTuple):
    """A kernel template; `registers` are the budgets of float and of double."""

    threads: int
    registers: tuple[int, int]


TILES = ((4, 4), (4, 2), (4, 1))  # sums a thread keeps: rows x columns; a block has 16 x 16 threads

PRECISIONS = {"fp32": "FP32", "3xtf32": "TF32X3", "tf32": "TF32"}  # as they are called here and in tensor_core.cuh
# Kernels whose blocks may wait for each other: launched all at once.
JOBS = {f"run_jobs<{{T}}, {name}>": Kernel(256, (128, 255)) for name in PRECISIONS.values()}
KERNELS = JOBS | {
    "prototype_centres<{T}>": Kernel(128, (40, 48)),
    "prototype_logits<{T}>": Kernel(128, (48, 64)),
    "prototype_query_gradient<{T}>": Kernel(128, (64, 64)),
    "prototype_support_gradient<{T}>": Kernel(128, (64, 64)),
    "mean_over_tasks<{T}>": Kernel(1024, (40, 40)),
    "share<{T}>": Kernel(256, (40, 40)),
    "mlp_meta_gradient<{T}>": Kernel(256, (128, 255)),  # or fewer threads: `Launch.threads`
}


def instances(scalar: str) -> dict[str, Kernel]:
    """All kernels for "float" or "double", by their name expressions; TF32 is for float alone."""
    kernels = {name.format(T=scalar): kernel for name, kernel in KERNELS.items()}
    return {name: kernel for name, kernel in kernels.items() if scalar == "float" or "TF32" not in name}
