"""An image as a vector: x (T, N, H, W, C) -> (T, N, H W C), in this order."""

from __future__ import annotations

from fastmeta_kernels.contract import Array


def forward(x: Array) -> Array:
    """y = x in another shape. (T, N, H W C)."""
    return x.reshape(*x.shape[:2], -1)


def backward(dy: Array, x: Array) -> Array:
    """dx = dy in the shape of x."""
    return dy.reshape(x.shape)


def forward_tangent(x: Array, x_dot: Array) -> Array:
    """y_dot = x_dot in another shape. (T, N, H W C)."""
    return forward(x_dot)


def backward_tangent(dy: Array, dy_dot: Array, x: Array, x_dot: Array) -> Array:
    """dx_dot = dy_dot in the shape of x."""
    return dy_dot.reshape(x.shape)
