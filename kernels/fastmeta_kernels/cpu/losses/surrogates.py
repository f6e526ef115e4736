"""psi(l), what a policy loss averages, and its slope by the log-probability l, where rho = exp(l - l0)."""

from __future__ import annotations

from fastmeta_kernels.cpu.machine.jit import kernel
from fastmeta_kernels.layer_table import SURROGATES

LOG, RATIO, CLIP, KL = range(len(SURROGATES))


@kernel
def psi(surrogate, clip, l, rho, w):
    """-l, or -rho, which beyond 1 +- clip, by the sign of the weight, counts no further."""
    if surrogate == LOG:
        return -l
    if surrogate == CLIP:
        if w > 0 and rho > 1 + clip:
            return -(1 + clip)
        if w <= 0 and rho < 1 - clip:
            return -(1 - clip)
    return -rho


@kernel
def psi_slope(surrogate, clip, rho, w):
    """-1, or -rho where it counts, else 0; psi'' is 0 of the logarithm and else the same."""
    if surrogate == LOG:
        return -1.0
    counts = surrogate == RATIO or (w > 0 and rho < 1 + clip) or (w < 0 and rho > 1 - clip)
    return -rho if counts else 0.0
