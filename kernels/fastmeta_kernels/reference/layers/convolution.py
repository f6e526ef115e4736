"""Cross-correlation as a linear layer over patches: x (T, N, H, W, I), weight (T, k, k, I, O), bias (T, O).

A patch is the k x k x I window under one output; OH = (H + 2 padding - k) // stride + 1, OW likewise.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fastmeta_kernels.contract import Array
from fastmeta_kernels.reference.layers import linear


def patches(x: Array, kernel: int, stride: int, padding: int) -> Array:
    """p[t, (n, i, j), (a, b, c)] = x[t, n, s i + a - pad, s j + b - pad, c]. (T, N OH OW, k k I)."""
    tasks, samples, height, width, channels = x.shape
    if padding:
        padded = np.zeros((tasks, samples, height + 2 * padding, width + 2 * padding, channels), x.dtype)
        padded[:, :, padding:-padding, padding:-padding] = x
        x = padded
    windows = sliding_window_view(x, (kernel, kernel), axis=(2, 3))[:, :, ::stride, ::stride]
    return windows.transpose(0, 1, 2, 3, 5, 6, 4).reshape(tasks, -1, kernel * kernel * channels)


def patches_adjoint(dp: Array, shape: tuple[int, ...], kernel: int, stride: int, padding: int) -> Array:
    """dx = sum over the patches that hold a pixel. (T, N OH OW, k k I) -> `shape` (T, N, H, W, I)."""
    tasks, samples, height, width, channels = shape
    out_h, out_w = ((n + 2 * padding - kernel) // stride + 1 for n in (height, width))
    dp = dp.reshape(tasks, samples, out_h, out_w, kernel, kernel, channels)
    dx = np.zeros((tasks, samples, height + 2 * padding, width + 2 * padding, channels), dp.dtype)
    for a in range(kernel):
        for b in range(kernel):
            rows = slice(a, a + stride * (out_h - 1) + 1, stride)
            columns = slice(b, b + stride * (out_w - 1) + 1, stride)
            dx[:, :, rows, columns] += dp[:, :, :, :, a, b]
    return dx[:, :, padding : padding + height, padding : padding + width]


def forward(x: Array, weight: Array, bias: Array | None, stride: int, padding: int) -> Array:
    """y = patches(x) W + b. -> (T, N, OH, OW, O)."""
    kernel = weight.shape[1]
    y = linear.forward(patches(x, kernel, stride, padding), _matrix(weight), bias)
    return y.reshape(_output_shape(x, weight, stride, padding))


def backward(
    dy: Array, x: Array, weight: Array, stride: int, padding: int, need_dx: bool = True
) -> tuple[Array | None, Array, Array]:
    """dx = patches^T(dy W^T), dW = patches(x)^T dy, db = sum dy. Shapes of x, weight, bias."""
    kernel = weight.shape[1]
    p = patches(x, kernel, stride, padding)
    dp, dweight, dbias = linear.backward(_vectors(dy), p, _matrix(weight), need_dx)
    dx = None if dp is None else patches_adjoint(dp, x.shape, kernel, stride, padding)
    return dx, dweight.reshape(-1, *weight.shape[1:]), dbias


def forward_tangent(
    x: Array,
    x_dot: Array | None,
    weight: Array,
    weight_dot: Array,
    bias_dot: Array | None,
    stride: int,
    padding: int,
) -> Array:
    """y_dot = patches(x_dot) W + patches(x) W_dot + b_dot. (T, N, OH, OW, O); x_dot None means zero."""
    kernel = weight.shape[1]
    p = patches(x, kernel, stride, padding)
    p_dot = None if x_dot is None else patches(x_dot, kernel, stride, padding)
    y_dot = linear.forward_tangent(p, p_dot, _matrix(weight), _matrix(weight_dot), bias_dot)
    return y_dot.reshape(_output_shape(x, weight, stride, padding))


def backward_tangent(
    dy: Array,
    dy_dot: Array,
    x: Array,
    x_dot: Array | None,
    weight: Array,
    weight_dot: Array,
    stride: int,
    padding: int,
    need_dx: bool = True,
) -> tuple[Array | None, Array, Array]:
    """dx_dot = patches^T(dy_dot W^T + dy W_dot^T), dW_dot = patches(x)^T dy_dot + patches(x_dot)^T dy."""
    kernel = weight.shape[1]
    p = patches(x, kernel, stride, padding)
    p_dot = None if x_dot is None else patches(x_dot, kernel, stride, padding)
    dp_dot, dweight_dot, dbias_dot = linear.backward_tangent(
        _vectors(dy), _vectors(dy_dot), p, p_dot, _matrix(weight), _matrix(weight_dot), need_dx
    )
    dx_dot = None if dp_dot is None else patches_adjoint(dp_dot, x.shape, kernel, stride, padding)
    return dx_dot, dweight_dot.reshape(-1, *weight.shape[1:]), dbias_dot


def _matrix(weight: Array) -> Array:
    return weight.reshape(weight.shape[0], -1, weight.shape[-1])  # (T, k k I, O)


def _vectors(dy: Array) -> Array:
    return dy.reshape(dy.shape[0], -1, dy.shape[-1])  # (T, N OH OW, O)


def _output_shape(x: Array, weight: Array, stride: int, padding: int) -> tuple[int, ...]:
    tasks, samples, height, width, _ = x.shape
    out_h, out_w = ((n + 2 * padding - weight.shape[1]) // stride + 1 for n in (height, width))
    return tasks, samples, out_h, out_w, weight.shape[-1]
