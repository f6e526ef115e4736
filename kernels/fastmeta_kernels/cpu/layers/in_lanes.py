"""y = x W + b of tasks in lanes: every operand of a product has two strides, so no weight is transposed or padded.

Written like `linear`, and carried out, as activations are, on vectors with one task in each lane.
"""

from __future__ import annotations

from fastmeta_kernels.cpu.layers.activations import derivative, second_derivative
from fastmeta_kernels.cpu.layers.products import PAIR, multiply
from fastmeta_kernels.cpu.layout.instruction import (
    ACTIVATE,
    ACTIVATE_BACKWARD,
    ACTIVATE_BACKWARD_TANGENT,
    ACTIVATE_TANGENT,
    MASK,
    NONE,
    PRODUCT,
    Code,
    Operand,
    one,
    place,
)
from fastmeta_kernels.cpu.layout.job import RATES, array_at
from fastmeta_kernels.cpu.layout.layer import Layer
from fastmeta_kernels.cpu.layout.places import ADD, MATRIX, RATED, SIGNED, Into, Places
from fastmeta_kernels.cpu.machine.exponential import softplus, tanh
from fastmeta_kernels.cpu.machine.jit import inlined, kernel
from fastmeta_kernels.cpu.machine.lane_product import lane_product
from fastmeta_kernels.cpu.machine.selection import where_positive
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES, load, maximum, splat, store
from fastmeta_kernels.layer_table import RELU, TANH

RECTIFIES, MASKS_INPUTS = False, True


def forward(code: Code, layer: Layer, at: Places) -> None:
    """y = x W + b."""
    a, b = (at.x, layer.c, 1, 0), (at.weight, layer.oc, 0)
    multiply(code, (layer.n, layer.oc, 1, layer.c), a, b, (at.y, layer.oc), at.bias, layer.relu)


def forward_tangent(code: Code, layer: Layer, at: Places) -> None:
    """y_dot = x W_dot + x_dot W + b_dot; 0 but where the ReLU that it took over passes."""
    mask = at.y if layer.relu else NONE
    a, b = (at.x, layer.c, 1, 0), (at.weight_dot, layer.oc, 0)
    if at.inner:
        a, b = (*a[:3], at.x_dot), (*b[:2], at.weight)
    shape = (layer.n, layer.oc, 2 if at.inner else 1, layer.c)
    multiply(code, shape, a, b, (at.y_dot, layer.oc), at.bias_dot, flags=PAIR if at.inner else 0, mask=mask)


def transpose_weight(code: Code, layer: Layer, w: Operand, t: Operand) -> None:
    """W is read as it is."""


def backward(code: Code, layer: Layer, at: Places, into: Into | None, transpose: bool) -> None:
    """dW = x^T dy, db = sum over samples of dy, dx = dy W^T; 0 but where the mask is positive."""
    if into:
        weight_gradient(code, layer, at, into)
    if at.inner:
        a, b = (at.dy, layer.oc, 1, 0), (at.weight, 1, 0)
        multiply(code, (layer.n, layer.c, 1, layer.oc), a, b, (at.dx, layer.c), mask=at.mask, bcs=layer.oc)


def backward_tangent(code: Code, layer: Layer, at: Places, into: Into) -> None:
    """dx_dot = dy W_dot^T + dy_dot W^T, and then dW_dot: the direction may be what it is added to."""
    if at.inner:
        input_tangent(code, layer, at, at.dx_dot)
    gradient_tangent(code, layer, at, into)


def gradient_tangent(code: Code, layer: Layer, at: Places, into: Into) -> None:
    """dW_dot = x_dot^T dy + x^T dy_dot and db_dot = sum over samples of dy_dot."""
    a, b = (at.x, 1, layer.c, 0), (at.dy_dot, layer.oc, 0)
    if at.inner:
        a, b = (*a[:3], at.x_dot), (*b[:2], at.dy)
    _gradient(code, layer, a, b, into, PAIR if at.inner else 0)


def input_tangent(code: Code, layer: Layer, at: Places, to: Operand, flags: int = 0) -> None:
    """to = dy W_dot^T + dy_dot W^T; with flags times the sign, or added; 0 but where the mask is positive."""
    a, b = (at.dy, layer.oc, 1, at.dy_dot), (at.weight_dot, 1, at.weight)
    shape = (layer.n, layer.c, 2, layer.oc)
    multiply(code, shape, a, b, (to, layer.c), flags=flags | PAIR, mask=at.mask, bcs=layer.oc)


def weight_gradient(code: Code, layer: Layer, at: Places, into: Into) -> None:
    """dW = x^T dy and db = sum over samples of dy."""
    _gradient(code, layer, (at.x, 1, layer.c, 0), (at.dy, layer.oc, 0), into, 0)


def _gradient(
    code: Code, layer: Layer, a: tuple[Operand, int, int, int], b: tuple[Operand, int, int], into: Into, flags: int
) -> None:
    shape, c = (layer.c, layer.oc, 2 if flags & PAIR else 1, layer.n), (into.weight, layer.oc)
    multiply(code, shape, a, b, c, into.base, flags=flags | into.flags, sums=into.bias)


@inlined
def run_product(ws, job, code, l, now):
    """PRODUCT."""
    it = one(PRODUCT, code, l)
    flags, masked = it.flags, it.mask > 0
    a, b = place(now, it.a), place(now, it.b)
    c, d = place(now, it.c), place(now, it.d)
    a1, b1 = it.a1, it.b1
    if flags & PAIR:
        a1, b1 = place(now, a1) - a, place(now, b1) - b
    add, alpha = flags & ADD != 0, ws.dtype.type(now.sign if flags & SIGNED else 1)
    if flags & RATED:
        streams = job.streams
        alpha *= array_at(ws, streams[RATES, 0], now.rate_row, 1)[0]
    if it.sums > 0:
        to = place(now, it.sums)
        base = to if add else d - c + to if flags & MATRIX else -1
        _sums(ws, b, it.ldb, it.k, it.columns, to, base, alpha)
    d, ldd = (c, it.ldc) if add else (d, it.ldc if flags & MATRIX else 0)
    mask = place(now, it.mask) if masked else -1
    lane_product(
        ws, it.m, it.columns, it.k1, it.k, a, it.ars, it.acs, a1, b, it.bcs, it.ldb, b1, c, it.ldc, d, ldd, mask,
        it.relu, alpha,
    )  # fmt: skip


@kernel
def _sums(ws, b, ldb, count, columns, to, d, alpha):
    """to[j] = d[j] + alpha sum_k B[k, j] of vectors; d = -1: sum_k B[k, j]."""
    width = VECTOR_BYTES // ws.itemsize
    for j in range(columns):
        s = splat(ws.dtype.type(0.0))
        for k in range(count):
            s = s + load(ws, (b + k * ldb + j) * width)
        store(ws, (to + j) * width, load(ws, (d + j) * width) + splat(alpha) * s if d >= 0 else s)


@inlined
def run_mask(ws, code, l, now):
    """MASK: value where y > 0, else 0."""
    it, width = one(MASK, code, l), VECTOR_BYTES // ws.itemsize
    y, value = place(now, it.y) * width, place(now, it.value) * width
    for q in range(0, it.n * it.oc * width, width):
        store(ws, value + q, where_positive(load(ws, y + q), load(ws, value + q)))


@inlined
def run_forward(ws, code, l, now):
    """ACTIVATE: y = f(x)."""
    it, width = one(ACTIVATE, code, l), VECTOR_BYTES // ws.itemsize
    kind, zero = it.kind, splat(ws.dtype.type(0.0))
    x, y = place(now, it.x), place(now, it.y)
    for q in range(0, it.n * it.c * width, width):
        v = load(ws, x * width + q)
        store(ws, y * width + q, maximum(v, zero) if kind == RELU else tanh(v) if kind == TANH else softplus(v))


@kernel
def _slope(kind, y, value):
    """f'(x) times a value, from y = f(x)."""
    return where_positive(y, value) if kind == RELU else derivative(kind, y) * value


@inlined
def run_backward(ws, code, l, now):
    """ACTIVATE_BACKWARD: dx = f'(x) dy."""
    it, width = one(ACTIVATE_BACKWARD, code, l), VECTOR_BYTES // ws.itemsize
    y, dy = place(now, it.y) * width, place(now, it.dy) * width
    dx = place(now, it.dx) * width
    for q in range(0, it.n * it.c * width, width):
        store(ws, dx + q, _slope(it.kind, load(ws, y + q), load(ws, dy + q)))


@inlined
def run_forward_tangent(ws, code, l, now):
    """ACTIVATE_TANGENT: y_dot = f'(x) x_dot."""
    it, width = one(ACTIVATE_TANGENT, code, l), VECTOR_BYTES // ws.itemsize
    y, x_dot = place(now, it.y) * width, place(now, it.x_dot) * width
    y_dot = place(now, it.y_dot) * width
    for q in range(0, it.n * it.c * width, width):
        store(ws, y_dot + q, _slope(it.kind, load(ws, y + q), load(ws, x_dot + q)))


@inlined
def run_backward_tangent(ws, code, l, now):
    """ACTIVATE_BACKWARD_TANGENT: dx_dot = f'(x) dy_dot + f''(x) x_dot dy."""
    it, width = one(ACTIVATE_BACKWARD_TANGENT, code, l), VECTOR_BYTES // ws.itemsize
    y, dy = place(now, it.y) * width, place(now, it.dy) * width
    x_dot, dy_dot = place(now, it.x_dot) * width, place(now, it.dy_dot) * width
    dx_dot = place(now, it.dx_dot) * width
    kind = it.kind
    for q in range(0, it.n * it.c * width, width):
        value = load(ws, y + q)
        found = _slope(kind, value, load(ws, dy_dot + q))
        if kind != RELU:
            found = found + second_derivative(kind, value) * load(ws, dy + q) * load(ws, x_dot + q)
        store(ws, dx_dot + q, found)
