"""Scale and shift of each channel: x (T, N, C) or (T, N, H, W, C), scale and shift (T, C).

Batch norm with fixed statistics is two of these: x_hat = r x - r mean, then y = scale x_hat + shift.
"""

from __future__ import annotations

from fastmeta_kernels.contract import Array
from fastmeta_kernels.reference.layers.normalisation import per_channel, sum_channels


def forward(x: Array, scale: Array, shift: Array) -> Array:
    """y = scale x + shift. Shape of x."""
    return per_channel(scale, x) * x + per_channel(shift, x)


def backward(dy: Array, x: Array, scale: Array, need_dx: bool = True) -> tuple[Array | None, Array, Array]:
    """dx = scale dy, dscale = sum dy x, dshift = sum dy. Shapes of x, (T, C), (T, C)."""
    dx = per_channel(scale, x) * dy if need_dx else None
    return dx, sum_channels(dy * x), sum_channels(dy)


def forward_tangent(x: Array, x_dot: Array | None, scale: Array, scale_dot: Array, shift_dot: Array) -> Array:
    """y_dot = scale x_dot + scale_dot x + shift_dot. Shape of x; x_dot None means zero."""
    y_dot = per_channel(scale_dot, x) * x + per_channel(shift_dot, x)
    return y_dot if x_dot is None else y_dot + per_channel(scale, x) * x_dot


def backward_tangent(
    dy: Array,
    dy_dot: Array,
    x: Array,
    x_dot: Array | None,
    scale: Array,
    scale_dot: Array,
    need_dx: bool = True,
) -> tuple[Array | None, Array, Array]:
    """dx_dot = scale_dot dy + scale dy_dot, dscale_dot = sum(dy_dot x + dy x_dot), dshift_dot = sum dy_dot."""
    dx_dot = per_channel(scale_dot, x) * dy + per_channel(scale, x) * dy_dot if need_dx else None
    terms = dy_dot * x if x_dot is None else dy_dot * x + dy * x_dot
    return dx_dot, sum_channels(terms), sum_channels(dy_dot)
