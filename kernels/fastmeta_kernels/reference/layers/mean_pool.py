"""The mean over an image: x (T, N, H, W, C). It is linear, so both tangents pass as the values passed."""

from __future__ import annotations

import numpy as np

from fastmeta_kernels.contract import Array


def forward(x: Array) -> Array:
    """y = mean over H, W. (T, N, C)."""
    return np.asarray(x.mean(axis=(2, 3)))


def backward(dy: Array, x: Array) -> Array:
    """dx = dy / (H W). (T, N, H, W, C)."""
    pixels = x.shape[2] * x.shape[3]
    return np.broadcast_to((dy / pixels)[:, :, None, None], x.shape)


def forward_tangent(x: Array, x_dot: Array) -> Array:
    """y_dot = mean of x_dot over H, W. (T, N, C)."""
    return forward(x_dot)


def backward_tangent(dy: Array, dy_dot: Array, x: Array, x_dot: Array) -> Array:
    """dx_dot = dy_dot / (H W). (T, N, H, W, C)."""
    return backward(dy_dot, x)
