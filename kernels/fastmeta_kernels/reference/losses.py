"""Losses of a set: outputs z (T, N, O), weights (T, N) or None for ones.

A loss is three functions of z, the targets y and the constants of its equation: its `values`, a mean over samples
(and outputs) of them; their `delta`, the gradient by z; and its `delta_tangent` in the direction z_dot. The mean is
of weight * value, not divided by the sum of the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.contract import Array, TaskSet, loss_of
from fastmeta_kernels.reference import policy_losses

Constants = tuple[float, ...]


def forward(z: Array, data: TaskSet) -> Array:
    """Losses (T,) of outputs (T, N, O)."""
    if loss_of(data).kind == lt.POLICY:
        return policy_losses.forward(z, data)
    loss = loss_of(data)
    return np.asarray(_weighted(LOSSES[loss.kind].values(z, data.y, loss.constants), data).mean(axis=(1, 2)))


def backward(z: Array, data: TaskSet) -> Array:
    """dz (T, N, O), the gradient of `forward`."""
    if loss_of(data).kind == lt.POLICY:
        return policy_losses.backward(z, data)
    loss = loss_of(data)
    return _weighted(LOSSES[loss.kind].delta(z, data.y, loss.constants), data)


def backward_tangent(z: Array, z_dot: Array, data: TaskSet) -> Array:
    """dz_dot (T, N, O), the derivative of `backward` in the direction z_dot."""
    if loss_of(data).kind == lt.POLICY:
        return policy_losses.backward_tangent(z, z_dot, data)
    loss = loss_of(data)
    return _weighted(LOSSES[loss.kind].delta_tangent(z, z_dot, data.y, loss.constants), data)


def has_sides(data: TaskSet) -> bool:
    """Whether a set's loss has pieces, between which it has no second derivative."""
    loss = loss_of(data)
    if loss.kind == lt.POLICY:
        return policy_losses.has_sides(loss)
    return LOSSES[loss.kind].sides is not None


def sides(z: Array, data: TaskSet) -> Array:
    """On which piece of such a loss each value is. (T, N, O), or (T, N) of a policy's."""
    loss = loss_of(data)
    if loss.kind == lt.POLICY:
        return policy_losses.sides(z, data)
    found = LOSSES[loss.kind].sides
    assert found is not None
    return found(z, data.y, loss.constants)


def squared_error(z: Array, y: Array, _: Constants) -> Array:
    """(z - y)^2. (T, N, O)."""
    return np.asarray((z - y) ** 2)


def squared_error_delta(z: Array, y: Array, _: Constants) -> Array:
    """dz = 2 (z - y) / (N O). (T, N, O)."""
    return np.asarray((2 / (z.shape[1] * z.shape[2])) * (z - y))


def squared_error_delta_tangent(z: Array, z_dot: Array, y: Array, _: Constants) -> Array:
    """dz_dot = 2 z_dot / (N O). (T, N, O)."""
    return np.asarray((2 / (z.shape[1] * z.shape[2])) * z_dot)


def cross_entropy(z: Array, y: Array, _: Constants) -> Array:
    """log sum_o exp z_o - z_y. (T, N, 1)."""
    return np.asarray(-np.take_along_axis(_log_softmax(z), y[:, :, None], axis=2))


def cross_entropy_delta(z: Array, y: Array, _: Constants) -> Array:
    """dz = (p - onehot(y)) / N, p = softmax(z). (T, N, O)."""
    dz = np.exp(_log_softmax(z))
    picked = np.take_along_axis(dz, y[:, :, None], axis=2)
    np.put_along_axis(dz, y[:, :, None], picked - 1, axis=2)
    return np.asarray(dz / z.shape[1])


def cross_entropy_delta_tangent(z: Array, z_dot: Array, y: Array, _: Constants) -> Array:
    """dz_dot = p (z_dot - sum_o p_o z_dot_o) / N, p = softmax(z). (T, N, O)."""
    p = np.exp(_log_softmax(z))
    dz_dot = p * (z_dot - (p * z_dot).sum(axis=2, keepdims=True))
    return np.asarray(dz_dot / z.shape[1])


def huber(z: Array, y: Array, constants: Constants) -> Array:
    """e^2 / 2 where |e| <= delta, e = z - y, else delta (|e| - delta / 2) (Huber 1964). (T, N, O)."""
    error, (delta,) = z - y, constants
    size = np.where(error.real < 0, -error, error)
    return np.asarray(np.where(size <= delta, size**2 / 2, delta * (size - delta / 2)))


def huber_delta(z: Array, y: Array, constants: Constants) -> Array:
    """dz = min(max(z - y, -delta), delta) / (N O). (T, N, O)."""
    (delta,) = constants
    return np.asarray((1 / (z.shape[1] * z.shape[2])) * np.clip(z - y, -delta, delta))


def huber_delta_tangent(z: Array, z_dot: Array, y: Array, constants: Constants) -> Array:
    """dz_dot = z_dot / (N O) where |z - y| <= delta, else 0. (T, N, O)."""
    return np.asarray((1 / (z.shape[1] * z.shape[2])) * np.where(huber_sides(z, y, constants), z_dot, 0))


def huber_sides(z: Array, y: Array, constants: Constants) -> Array:
    """Where |z - y| <= delta: the loss has no second derivative where that changes. (T, N, O)."""
    (delta,) = constants
    return np.asarray(np.abs(z - y) <= delta)


class _Loss(NamedTuple):
    values: Callable[[Array, Array, Constants], Array]
    delta: Callable[[Array, Array, Constants], Array]
    delta_tangent: Callable[[Array, Array, Array, Constants], Array]
    sides: Callable[[Array, Array, Constants], Array] | None = None  # on which piece each value is, where there are any


LOSSES = {
    lt.SQUARED_ERROR: _Loss(squared_error, squared_error_delta, squared_error_delta_tangent),
    lt.CROSS_ENTROPY: _Loss(cross_entropy, cross_entropy_delta, cross_entropy_delta_tangent),
    lt.HUBER: _Loss(huber, huber_delta, huber_delta_tangent, huber_sides),
}


def _log_softmax(z: Array) -> Array:
    shifted = z - z.max(axis=2, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=2, keepdims=True)))


def _weighted(values: Array, data: TaskSet) -> Array:
    return values if data.weights is None else values * data.weights[:, :, None]
