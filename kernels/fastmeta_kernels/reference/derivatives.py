"""Outputs, losses, gradients and Hessian-vector products of T tasks at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastmeta_kernels.blocks import mean_of_parts
from fastmeta_kernels.contract import Array, TaskSet
from fastmeta_kernels.layer_table import Table
from fastmeta_kernels.reference import losses, network, policy_losses

quiet = np.errstate(all="ignore")  # whatever the caller told NumPy: a diverged loss is reported by the public door


class Pass(NamedTuple):
    """What one forward and backward pass leaves for a Hessian-vector product at the same theta."""

    xs: list[Array]
    dys: list[Any]
    losses: Array  # (T,)
    gradient: Array  # (T, P)


@quiet
def predict(table: Table, theta: Array, x: Array) -> Array:
    """z = f(x, theta). (T, N, O)."""
    return network.forward(table, np.atleast_2d(theta), x)[-1]


@quiet
def loss(table: Table, theta: Array, data: TaskSet) -> Array:
    """L = loss(f(x, theta), y). (T,)."""
    return losses.forward(predict(table, theta, data.x), data)


@quiet
def gradient(table: Table, theta: Array, data: TaskSet) -> tuple[Array, Array]:
    """L (T,) and dL / dtheta (T, P)."""
    run = gradient_pass(table, np.atleast_2d(theta), data)
    return run.losses, run.gradient


@quiet
def hvp(table: Table, theta: Array, v: Array, data: TaskSet) -> Array:
    """H v = d/de grad L(theta + e v) at e = 0, by Pearlmutter's R-operator. (T, P)."""
    return products("hvp", table, theta, data)(v)


@quiet
def pullback(table: Table, theta: Array, x: Array, d_outputs: Array) -> Array:
    """d sum(f(x, theta) * d_outputs) / dtheta (T, P)."""
    theta = np.atleast_2d(theta)
    return network.backward(table, theta, network.forward(table, theta, x), d_outputs)[0]


@quiet
def fisher(table: Table, theta: Array, v: Array, data: TaskSet) -> Array:
    """F v (T, P): the Hessian of the mean KL of policies from themselves, J^T M J v, J = d outputs / d theta.

    `data` has the policy's loss and weights; its targets are not used.
    """
    return products("fisher", table, theta, data)(v)


def products(kind: str, table: Table, theta: Array, data: TaskSet) -> Callable[[Array], Array]:
    """v -> H v or F v (T, P), by kind "hvp" or "fisher", from passes at theta that are kept."""
    parts = len(data.x) // len(theta) if theta.ndim > 1 else 1  # of a task
    theta = np.repeat(np.atleast_2d(theta), parts, axis=0)
    run = quiet(gradient_pass)(table, theta, data) if kind == "hvp" else None
    xs = run.xs if run else quiet(network.forward)(table, theta, data.x)

    @quiet
    def product(v: Array) -> Array:
        v = np.repeat(np.atleast_2d(v), parts, axis=0)
        if run:
            return mean_of_parts(product_and_slopes(table, theta, v, data, run)[0], parts)
        x_dots = network.forward_tangent(table, theta, v, xs)
        dz = policy_losses.metric(xs[-1], x_dots[-1], data)
        return mean_of_parts(network.backward(table, theta, xs, dz)[0], parts)

    return product


def gradient_pass(table: Table, theta: Array, data: TaskSet) -> Pass:
    """Forward and backward; theta (T, P) or (1, P)."""
    xs = network.forward(table, theta, data.x)
    dy = losses.backward(xs[-1], data)
    total, dys = network.backward(table, theta, xs, dy)
    return Pass(xs, dys, losses.forward(xs[-1], data), total)


def product_and_slopes(table: Table, theta: Array, v: Array, data: TaskSet, run: Pass) -> tuple[Array, Array]:
    """H v (T, P) from what the gradient pass at theta left, and along v the slope of each sample's own loss (T, N)."""
    x_dots = network.forward_tangent(table, theta, v, run.xs)
    z, z_dot = run.xs[-1], x_dots[-1]
    assert z_dot is not None
    product = network.backward_tangent(
        table, theta, v, run.xs, x_dots, run.dys, losses.backward_tangent(z, z_dot, data)
    )
    return product, (losses.backward(z, data._replace(weights=None)) * z_dot).sum(axis=2)
