"""A whole network from its layer table: each pass calls the same-named function of every layer in turn.

theta, v and gradients are (T, P) or (1, P). `xs` holds the input of every layer and, last, the outputs;
`dys` the gradient with respect to every layer's output, None before the first layer with parameters,
where no gradient and no tangent is needed.
"""

from __future__ import annotations

import math

import numpy as np

from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.contract import Array
from fastmeta_kernels.reference.layers import LAYERS, Optional, Row


def forward(table: lt.Table, theta: Array, x: Array) -> list[Array]:
    """xs[l + 1] = f_l(xs[l], w_l)."""
    xs = [x]
    for row in table.tolist():
        xs.append(LAYERS[row[lt.KIND]].forward(row, xs[-1], *_parameters(row, theta)))
    return xs


def backward(table: lt.Table, theta: Array, xs: list[Array], dy: Array) -> tuple[Array, list[Optional]]:
    """dys[l - 1], dw_l = f_l^T(dys[l]; xs[l], w_l). Gradient (T, P) and dys."""
    rows = table.tolist()
    first = _first(rows)
    gradient = np.empty((dy.shape[0], theta.shape[1]), dy.dtype)
    dys: list[Optional] = [None] * len(rows)
    for index in range(len(rows) - 1, first - 1, -1):
        row, dys[index] = rows[index], dy
        weight, _ = _parameters(row, theta)
        dy, dweight, dbias = LAYERS[row[lt.KIND]].backward(row, dy, xs[index], weight, index > first)
        _store(row, gradient, dweight, dbias)
    return gradient, dys


def forward_tangent(table: lt.Table, theta: Array, v: Array, xs: list[Array]) -> list[Optional]:
    """x_dots[l + 1] = f_l'(xs[l], w_l)[x_dots[l], v_l]; None (zero) up to the first layer with parameters."""
    rows = table.tolist()
    first = _first(rows)
    x_dots: list[Optional] = [None] * (first + 1)
    for row, x in zip(rows[first:], xs[first:], strict=False):
        weight, _ = _parameters(row, theta)
        layer = LAYERS[row[lt.KIND]]
        x_dots.append(layer.forward_tangent(row, x, x_dots[-1], weight, *_parameters(row, v)))
    return x_dots


def backward_tangent(
    table: lt.Table,
    theta: Array,
    v: Array,
    xs: list[Array],
    x_dots: list[Optional],
    dys: list[Optional],
    dy_dot: Array,
) -> Array:
    """H v (T, P): the derivative of `backward` in the direction of v, x_dots and dy_dot."""
    rows = table.tolist()
    first = _first(rows)
    product = np.empty((dy_dot.shape[0], theta.shape[1]), dy_dot.dtype)
    for index in range(len(rows) - 1, first - 1, -1):
        row = rows[index]
        weight, weight_dot = _parameters(row, theta)[0], _parameters(row, v)[0]
        dy_dot, dweight_dot, dbias_dot = LAYERS[row[lt.KIND]].backward_tangent(
            row, dys[index], dy_dot, xs[index], x_dots[index], weight, weight_dot, index > first
        )
        _store(row, product, dweight_dot, dbias_dot)
    return product


def _first(rows: list[Row]) -> int:
    return next(index for index, row in enumerate(rows) if row[lt.WEIGHT] >= 0)


def _parameters(row: Row, theta: Array) -> tuple[Optional, Optional]:
    start, bias, outputs = row[lt.WEIGHT], row[lt.BIAS], row[lt.OUT_C]
    if start < 0:
        return None, None
    shape: tuple[int, ...] = (outputs,)  # batch norm, affine
    if row[lt.KIND] == lt.LINEAR:
        shape = (row[lt.IN_C], outputs)
    elif row[lt.KIND] == lt.APPEND:
        shape = (outputs - row[lt.IN_C],)
    elif row[lt.KIND] == lt.CONVOLUTION:
        shape = (row[lt.KERNEL], row[lt.KERNEL], row[lt.IN_C], outputs)
    weight = theta[:, start : start + math.prod(shape)].reshape(-1, *shape)
    return weight, theta[:, bias : bias + outputs] if bias >= 0 else None


def _store(row: Row, gradient: Array, dweight: Optional, dbias: Optional) -> None:
    start, bias = row[lt.WEIGHT], row[lt.BIAS]
    if start >= 0:
        flat = dweight.reshape(gradient.shape[0], -1)
        gradient[:, start : start + flat.shape[1]] = flat
    if bias >= 0:
        gradient[:, bias : bias + dbias.shape[1]] = dbias
