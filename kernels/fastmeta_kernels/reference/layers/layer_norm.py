"""Layer norm: each sample by its own statistics: x (T, N, C) or (T, N, H, W, C), scale and shift (T, C).

mean u: over C (H, W, C) of each sample. r = 1 / sqrt(biased variance + eps), x_hat = r (x - mean x).
The Jacobian of x_hat is J u = r (u - mean u - x_hat mean(x_hat u)); it is symmetric (arXiv 1607.06450).
"""

from __future__ import annotations

import numpy as np

from fastmeta_kernels.contract import Array
from fastmeta_kernels.layer_table import BATCH_NORM_EPSILON
from fastmeta_kernels.reference.layers.batch_norm import per_channel, sum_channels


def forward(x: Array, scale: Array, shift: Array) -> Array:
    """y = scale x_hat + shift. Shape of x."""
    x_hat, _ = _normalise(x)
    return per_channel(scale, x) * x_hat + per_channel(shift, x)


def backward(dy: Array, x: Array, scale: Array, need_dx: bool = True) -> tuple[Array | None, Array, Array]:
    """dx = J(scale dy), dscale = sum dy x_hat, dshift = sum dy. Shapes of x, (T, C), (T, C)."""
    x_hat, r = _normalise(x)
    dx = _jacobian(per_channel(scale, x) * dy, x_hat, r) if need_dx else None
    return dx, sum_channels(dy * x_hat), sum_channels(dy)


def forward_tangent(x: Array, x_dot: Array | None, scale: Array, scale_dot: Array, shift_dot: Array) -> Array:
    """y_dot = scale J(x_dot) + scale_dot x_hat + shift_dot. Shape of x; x_dot None means zero."""
    x_hat, r = _normalise(x)
    y_dot = per_channel(scale_dot, x) * x_hat + per_channel(shift_dot, x)
    if x_dot is not None:
        y_dot = y_dot + per_channel(scale, x) * _jacobian(x_dot, x_hat, r)
    return y_dot


def backward_tangent(
    dy: Array,
    dy_dot: Array,
    x: Array,
    x_dot: Array | None,
    scale: Array,
    scale_dot: Array,
    need_dx: bool = True,
) -> tuple[Array | None, Array, Array]:
    """g = scale dy, dx_dot = J g_dot + r_dot / r J g - r (x_hat_dot mean(x_hat g) + x_hat mean(x_hat_dot g)).

    r_dot / r = -r mean(x_hat x_dot), x_hat_dot = J x_dot, dscale_dot = sum(dy_dot x_hat + dy x_hat_dot).
    """
    x_hat, r = _normalise(x)
    g_dot = per_channel(scale, x) * dy_dot + per_channel(scale_dot, x) * dy
    if x_dot is None:
        dx_dot = _jacobian(g_dot, x_hat, r) if need_dx else None
        return dx_dot, sum_channels(dy_dot * x_hat), sum_channels(dy_dot)
    x_hat_dot = _jacobian(x_dot, x_hat, r)
    dx_dot = None
    if need_dx:
        g = per_channel(scale, x) * dy
        dx_dot = _jacobian(g_dot, x_hat, r) - r * _mean(x_hat * x_dot) * _jacobian(g, x_hat, r)
        dx_dot -= r * (x_hat_dot * _mean(x_hat * g) + x_hat * _mean(x_hat_dot * g))
    return dx_dot, sum_channels(dy_dot * x_hat + dy * x_hat_dot), sum_channels(dy_dot)


def _normalise(x: Array) -> tuple[Array, Array]:
    first = (slice(None), slice(None), *(slice(0, 1),) * (x.ndim - 2))
    shifted = x - x[first]  # a constant sample is its own mean to the last bit
    centred = shifted - _mean(shifted)
    r = 1.0 / np.sqrt(_mean(centred * centred) + BATCH_NORM_EPSILON)
    r[r == 0] = np.nan  # an overflow must not look like a constant
    return centred * r, r


def _jacobian(u: Array, x_hat: Array, r: Array) -> Array:
    return np.asarray(r * (u - _mean(u) - x_hat * _mean(x_hat * u)))


def _mean(u: Array) -> Array:
    return np.asarray(u.mean(axis=tuple(range(2, u.ndim)), keepdims=True))  # (T, N, 1, ..)
