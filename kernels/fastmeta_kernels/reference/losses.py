"""Losses of a set: outputs z (T, N, O), weights (T, N) or None for ones.

Integer labels y (T, N) mean softmax cross-entropy, float targets y (T, N, O) mean squared error.
A loss is the mean over samples (and outputs) of weight * loss, not divided by the sum of the weights.
"""

from __future__ import annotations

import numpy as np

from fastmeta_kernels.contract import Array


def forward(z: Array, y: Array, weights: Array | None) -> Array:
    """Losses (T,) of outputs (T, N, O) by the kind of y."""
    return cross_entropy(z, y, weights) if y.ndim == 2 else mean_squared_error(z, y, weights)


def backward(z: Array, y: Array, weights: Array | None) -> Array:
    """dz (T, N, O), the gradient of `forward`."""
    if y.ndim == 2:
        return cross_entropy_backward(z, y, weights)
    return mean_squared_error_backward(z, y, weights)


def backward_tangent(z: Array, z_dot: Array, y: Array, weights: Array | None) -> Array:
    """dz_dot (T, N, O), the derivative of `backward` in the direction z_dot."""
    if y.ndim == 2:
        return cross_entropy_backward_tangent(z, z_dot, weights)
    return mean_squared_error_backward_tangent(z_dot, weights)


def mean_squared_error(z: Array, y: Array, weights: Array | None) -> Array:
    """L = 1 / (N O) sum w (z - y)^2. (T,)."""
    squares = (z - y) ** 2
    return np.asarray(_weighted(squares, weights).mean(axis=(1, 2)))


def mean_squared_error_backward(z: Array, y: Array, weights: Array | None) -> Array:
    """dz = 2 w (z - y) / (N O). (T, N, O)."""
    return _weighted((2 / (z.shape[1] * z.shape[2])) * (z - y), weights)


def mean_squared_error_backward_tangent(z_dot: Array, weights: Array | None) -> Array:
    """dz_dot = 2 w z_dot / (N O). (T, N, O)."""
    return _weighted((2 / (z_dot.shape[1] * z_dot.shape[2])) * z_dot, weights)


def cross_entropy(z: Array, y: Array, weights: Array | None) -> Array:
    """L = 1 / N sum w (log sum_o exp z_o - z_y). (T,)."""
    losses = -np.take_along_axis(_log_softmax(z), y[:, :, None], axis=2)
    return np.asarray(_weighted(losses, weights).mean(axis=(1, 2)))


def cross_entropy_backward(z: Array, y: Array, weights: Array | None) -> Array:
    """dz = w (p - onehot(y)) / N, p = softmax(z). (T, N, O)."""
    dz = np.exp(_log_softmax(z))
    picked = np.take_along_axis(dz, y[:, :, None], axis=2)
    np.put_along_axis(dz, y[:, :, None], picked - 1, axis=2)
    return _weighted(dz / z.shape[1], weights)


def cross_entropy_backward_tangent(z: Array, z_dot: Array, weights: Array | None) -> Array:
    """dz_dot = w p (z_dot - sum_o p_o z_dot_o) / N, p = softmax(z). (T, N, O)."""
    p = np.exp(_log_softmax(z))
    dz_dot = p * (z_dot - (p * z_dot).sum(axis=2, keepdims=True))
    return _weighted(dz_dot / z.shape[1], weights)


def _log_softmax(z: Array) -> Array:
    shifted = z - z.max(axis=2, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=2, keepdims=True)))


def _weighted(values: Array, weights: Array | None) -> Array:
    return values if weights is None else values * weights[:, :, None]
