"""Linear layer: x (T, N, I), weight (T, I, O), bias (T, O) -> y (T, N, O). A weight's T may be 1 (shared)."""

from __future__ import annotations

from fastmeta_kernels.contract import Array


def forward(x: Array, weight: Array, bias: Array | None) -> Array:
    """y = x W + b. (T, N, I), (T, I, O), (T, O) -> (T, N, O)."""
    y = x @ weight
    if bias is not None:
        y += bias[:, None]
    return y


def backward(dy: Array, x: Array, weight: Array, need_dx: bool = True) -> tuple[Array | None, Array, Array]:
    """dx = dy W^T, dW = x^T dy, db = sum_n dy. Shapes of x, weight, bias; dx is None unless needed."""
    dx = dy @ weight.mT if need_dx else None
    return dx, x.mT @ dy, dy.sum(axis=1)


def forward_tangent(x: Array, x_dot: Array | None, weight: Array, weight_dot: Array, bias_dot: Array | None) -> Array:
    """y_dot = x_dot W + x W_dot + b_dot. (T, N, O); x_dot None means zero."""
    y_dot = forward(x, weight_dot, bias_dot)
    if x_dot is not None:
        y_dot = y_dot + x_dot @ weight
    return y_dot


def backward_tangent(
    dy: Array,
    dy_dot: Array,
    x: Array,
    x_dot: Array | None,
    weight: Array,
    weight_dot: Array,
    need_dx: bool = True,
) -> tuple[Array | None, Array, Array]:
    """dx_dot = dy_dot W^T + dy W_dot^T, dW_dot = x^T dy_dot + x_dot^T dy, db_dot = sum_n dy_dot."""
    dx_dot, dweight_dot, dbias_dot = backward(dy_dot, x, weight, need_dx)
    if dx_dot is not None:
        dx_dot = dx_dot + dy @ weight_dot.mT
    if x_dot is not None:
        dweight_dot = dweight_dot + x_dot.mT @ dy
    return dx_dot, dweight_dot, dbias_dot
