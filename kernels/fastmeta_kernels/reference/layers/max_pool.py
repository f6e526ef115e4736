"""Max pooling: x (T, N, H, W, C). Both tangents pass as the values passed."""

from __future__ import annotations

import numpy as np

from fastmeta_kernels.contract import Array


def forward(x: Array, size: int) -> Array:
    """y = max over size x size windows, stride size, remainder dropped. (T, N, H // size, W // size, C)."""
    return np.asarray(_windows(x, size).max(axis=4))


def winners(x: Array, size: int) -> Array:
    """Place in its window, in row order, of each maximum; ties go to the first. (T, N, OH, OW, C)."""
    return np.asarray(_windows(x, size).argmax(axis=4))


def backward(dy: Array, x: Array, size: int) -> Array:
    """dx = dy where the maximum was, else 0. (T, N, H, W, C)."""
    tasks, samples, out_h, out_w, channels = dy.shape
    windows = np.zeros((tasks, samples, out_h, out_w, size * size, channels), dy.dtype)
    np.put_along_axis(windows, winners(x, size)[:, :, :, :, None], dy[:, :, :, :, None], axis=4)
    rows = windows.reshape(tasks, samples, out_h, out_w, size, size, channels).swapaxes(3, 4)
    dx = np.zeros_like(x)
    dx[:, :, : out_h * size, : out_w * size] = rows.reshape(tasks, samples, out_h * size, out_w * size, channels)
    return dx


def forward_tangent(x: Array, x_dot: Array, size: int) -> Array:
    """y_dot = x_dot where the maximum was. (T, N, OH, OW, C)."""
    chosen = winners(x, size)[:, :, :, :, None]
    return np.take_along_axis(_windows(x_dot, size), chosen, axis=4)[:, :, :, :, 0]


def backward_tangent(dy: Array, dy_dot: Array, x: Array, x_dot: Array, size: int) -> Array:
    """dx_dot = dy_dot where the maximum was, else 0. (T, N, H, W, C)."""
    return backward(dy_dot, x, size)


def _windows(x: Array, size: int) -> Array:
    tasks, samples, height, width, channels = x.shape
    out_h, out_w = height // size, width // size
    x = x[:, :, : out_h * size, : out_w * size]
    x = x.reshape(tasks, samples, out_h, size, out_w, size, channels).swapaxes(3, 4)
    return x.reshape(tasks, samples, out_h, out_w, size * size, channels)
