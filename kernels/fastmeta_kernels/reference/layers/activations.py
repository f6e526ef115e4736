"""Elementwise activations y = f(x) of any shape: ReLU, tanh, softplus. Each is its f, f' and f''."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastmeta_kernels.contract import Array
from fastmeta_kernels.layer_table import RELU, SOFTPLUS, TANH


def forward(x: Array, kind: int) -> Array:
    """y = f(x)."""
    return _VALUE[kind](x)


def backward(dy: Array, x: Array, kind: int) -> Array:
    """dx = f'(x) dy."""
    return _SLOPE[kind](x) * dy


def forward_tangent(x: Array, x_dot: Array, kind: int) -> Array:
    """y_dot = f'(x) x_dot."""
    return _SLOPE[kind](x) * x_dot


def backward_tangent(dy: Array, dy_dot: Array, x: Array, x_dot: Array, kind: int) -> Array:
    """dx_dot = f'(x) dy_dot + f''(x) x_dot dy. f'' of ReLU is 0."""
    dx_dot = _SLOPE[kind](x) * dy_dot
    if kind != RELU:
        dx_dot += _CURVATURE[kind](x) * x_dot * dy
    return dx_dot


def _relu(x: Array) -> Array:
    return np.maximum(x, 0)


def _relu_slope(x: Array) -> Array:
    return x > 0  # 0 at 0


def _tanh(x: Array) -> Array:
    return np.tanh(x)


def _tanh_slope(x: Array) -> Array:
    y = np.tanh(x)
    return np.asarray(1 - y * y)


def _tanh_curvature(x: Array) -> Array:
    y = np.tanh(x)
    return np.asarray(-2 * y * (1 - y * y))


def _softplus(x: Array) -> Array:
    size = np.where(x.real < 0, -x, x)  # |x|, where a complex x is on the side of its real part
    return np.maximum(x, 0) + np.log1p(np.exp(-size))  # log(1 + e^x) without overflow


def _sigmoid(x: Array) -> Array:
    return np.exp(-_softplus(-x))


def _sigmoid_slope(x: Array) -> Array:
    return _sigmoid(x) * _sigmoid(-x)


_VALUE: dict[int, Callable[[Array], Array]] = {RELU: _relu, TANH: _tanh, SOFTPLUS: _softplus}
_SLOPE: dict[int, Callable[[Array], Array]] = {RELU: _relu_slope, TANH: _tanh_slope, SOFTPLUS: _sigmoid}
_CURVATURE: dict[int, Callable[[Array], Array]] = {TANH: _tanh_curvature, SOFTPLUS: _sigmoid_slope}
