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
ACTIVATIONS = (3, 4, 5)  # RELU, TANH, SOFTPLUS of the layer table

KERNELS = {
    **{f"convolve<{{T}}, {m}, {n}>": Kernel(256, (96, 128)) for m, n in TILES},
    **{f"convolve_backward<{{T}}, {m}, {n}>": Kernel(256, (128, 160)) for m, n in TILES},
    "add_splits<{T}>": Kernel(256, (40, 40)),
    "norm_forward<{T}>": Kernel(256, (64, 96)),
    "norm_backward<{T}>": Kernel(256, (64, 96)),
    "norm_forward_tangent<{T}>": Kernel(256, (64, 96)),
    "norm_backward_tangent<{T}>": Kernel(256, (96, 128)),
    **{f"activate<{{T}}, {kind}>": Kernel(256, (40, 64)) for kind in ACTIVATIONS},
    **{f"activate_slope<{{T}}, {kind}>": Kernel(256, (40, 64)) for kind in ACTIVATIONS},
    **{f"activate_backward_tangent<{{T}}, {kind}>": Kernel(256, (40, 64)) for kind in ACTIVATIONS},
    "max_pool<{T}>": Kernel(256, (40, 48)),
    "max_pool_backward<{T}>": Kernel(256, (48, 48)),
    "mean_pool<{T}>": Kernel(256, (40, 48)),
    "mean_pool_backward<{T}>": Kernel(256, (40, 48)),
    "cross_entropy<{T}>": Kernel(128, (64, 96)),
    "cross_entropy_tangent<{T}>": Kernel(128, (64, 96)),
    "squared_error<{T}>": Kernel(128, (48, 64)),
    "squared_error_tangent<{T}>": Kernel(128, (40, 48)),
    "prototype_centres<{T}>": Kernel(128, (40, 48)),
    "prototype_logits<{T}>": Kernel(128, (48, 64)),
    "prototype_query_gradient<{T}>": Kernel(128, (64, 64)),
    "prototype_support_gradient<{T}>": Kernel(128, (64, 64)),
    "descend<{T}>": Kernel(256, (40, 40)),
    "sweep<{T}>": Kernel(256, (40, 40)),
    "mean_over_tasks<{T}>": Kernel(1024, (40, 40)),
    "share<{T}>": Kernel(256, (40, 40)),
    "mlp_meta_gradient<{T}>": Kernel(256, (128, 255)),  # or fewer threads: `Launch.threads`
}


def instances(scalar: str) -> tuple[str, ...]:
    """Name expressions of all kernels for `scalar`, "float" or "double"."""
    return tuple(name.format(T=scalar) for name in KERNELS)
