"""Learned values behind the features of every sample: x (T, N, I), values (T, V), y (T, N, I + V)."""

from __future__ import annotations

import numpy as np

from fastmeta_kernels.contract import Array


def forward(x: Array, values: Array, _: None) -> Array:
    """y = [x, values]."""
    return np.concatenate([x, np.broadcast_to(values[:, None], (len(x), x.shape[1], values.shape[1]))], axis=2)


def backward(dy: Array, x: Array, values: Array, need_dx: bool = True) -> tuple[Array | None, Array, None]:
    """dx = dy[:I], dvalues = sum_n dy[I:]. Shapes of x, (T, V)."""
    size = x.shape[2]
    return dy[..., :size] if need_dx else None, dy[..., size:].sum(axis=1), None


def forward_tangent(x: Array, x_dot: Array | None, values: Array, values_dot: Array, _: None) -> Array:
    """y_dot = [x_dot, values_dot]; x_dot None means zero."""
    return forward(np.zeros_like(x) if x_dot is None else x_dot, values_dot, None)


def backward_tangent(
    dy: Array, dy_dot: Array, x: Array, x_dot: Array | None, values: Array, values_dot: Array, need_dx: bool = True
) -> tuple[Array | None, Array, None]:
    """dx_dot = dy_dot[:I], dvalues_dot = sum_n dy_dot[I:]: the layer is linear."""
    return backward(dy_dot, x, values, need_dx)
