"""ReLU, tanh and softplus in a workspace, told apart by their kind; y' and y'' are functions of y alone.

Smooth ones walk the C channels that carry data and leave the padding at zero.

Longer than 200 lines because the four functions of three activations are one family.
"""

from __future__ import annotations

from fastmeta_kernels.cpu.layout.instruction import (
    ACTIVATE,
    ACTIVATE_BACKWARD,
    ACTIVATE_BACKWARD_TANGENT,
    ACTIVATE_TANGENT,
    MASK,
    SAMPLES,
    Code,
    Operand,
    one,
    place,
)
from fastmeta_kernels.cpu.layout.layer import Layer
from fastmeta_kernels.cpu.layout.places import Into, Places
from fastmeta_kernels.cpu.machine.exponential import expm1, softplus, tanh
from fastmeta_kernels.cpu.machine.jit import inlined, kernel
from fastmeta_kernels.cpu.machine.selection import where_positive
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES, all_of, load, maximum, splat, store, store_first
from fastmeta_kernels.layer_table import RELU, TANH

RECTIFIES, MASKS_INPUTS = False, False


def forward(code: Code, layer: Layer, at: Places) -> None:
    """y = f(x)."""
    code.add(ACTIVATE, SAMPLES, layer, x=at.x, y=at.y)


def forward_tangent(code: Code, layer: Layer, at: Places) -> None:
    """y_dot = f'(x) x_dot."""
    code.add(ACTIVATE_TANGENT, SAMPLES, layer, y=at.y, x_dot=at.x_dot, y_dot=at.y_dot)


def backward(code: Code, layer: Layer, at: Places, into: Into | None, transpose: bool) -> None:
    """dx = f'(x) dy."""
    code.add(ACTIVATE_BACKWARD, SAMPLES, layer, y=at.y, dy=at.dy, dx=at.dx)


def backward_tangent(code: Code, layer: Layer, at: Places, into: Into) -> None:
    """dx_dot = f'(x) dy_dot + f''(x) x_dot dy."""
    tangents = {"x_dot": at.x_dot, "dy_dot": at.dy_dot, "dx_dot": at.dx_dot}
    code.add(ACTIVATE_BACKWARD_TANGENT, SAMPLES, layer, y=at.y, dy=at.dy, **tangents)


def mask(code: Code, layer: Layer, y: Operand, value: Operand) -> None:
    """value = value where y > 0, else 0: the derivative of a ReLU that the layer took over."""
    code.add(MASK, SAMPLES, layer, y=y, value=value)


@inlined
def run_mask(ws, code, l, now, first, last):
    """MASK, of samples first .. last."""
    it = one(MASK, code, l)
    shift = first * it.y_n
    _mask(ws, it, last - first, place(now, it.y) + shift, place(now, it.value) + shift)


@inlined
def run_forward(ws, code, l, now, first, last):
    """ACTIVATE, of samples first .. last."""
    it = one(ACTIVATE, code, l)
    _forward(ws, it, last - first, place(now, it.x) + first * it.x_n, place(now, it.y) + first * it.y_n)


@inlined
def run_backward(ws, code, l, now, first, last):
    """ACTIVATE_BACKWARD, of samples first .. last."""
    it = one(ACTIVATE_BACKWARD, code, l)
    shift = first * it.y_n
    dx = place(now, it.dx) + first * it.x_n
    _backward(ws, it, last - first, place(now, it.y) + shift, place(now, it.dy) + shift, dx)


@inlined
def run_forward_tangent(ws, code, l, now, first, last):
    """ACTIVATE_TANGENT, of samples first .. last."""
    it = one(ACTIVATE_TANGENT, code, l)
    shift = first * it.y_n
    x_dot = place(now, it.x_dot) + first * it.x_n
    _forward_tangent(ws, it, last - first, place(now, it.y) + shift, x_dot, place(now, it.y_dot) + shift)


@inlined
def run_backward_tangent(ws, code, l, now, first, last):
    """ACTIVATE_BACKWARD_TANGENT, of samples first .. last."""
    it = one(ACTIVATE_BACKWARD_TANGENT, code, l)
    x_shift, shift = first * it.x_n, first * it.y_n
    y, dy = place(now, it.y) + shift, place(now, it.dy) + shift
    dy_dot = place(now, it.dy_dot) + shift
    x_dot, dx_dot = place(now, it.x_dot) + x_shift, place(now, it.dx_dot) + x_shift
    _backward_tangent(ws, it, last - first, y, x_dot, dy, dy_dot, dx_dot)


@kernel
def _mask(ws, it, n, y, value):
    width = VECTOR_BYTES // ws.itemsize
    rows, length = it.oh, it.ow * it.ocp
    if it.y_n == rows * length:  # one run
        length *= n * rows
        n, rows = 1, 1
    for i in range(n):
        for r in range(rows):
            at = i * it.y_n + r * it.y_r
            for q in range(at, at + length, width):
                store(ws, value + q, where_positive(load(ws, y + q), load(ws, value + q)))


@kernel
def derivative(kind, y):
    """f'(x) from y = f(x): tanh 1 - y^2, softplus 1 - exp(-y)."""
    if kind == TANH:
        return all_of(y, 1.0) - y * y
    zero = all_of(y, 0.0)
    return zero - expm1(zero - y)


@kernel
def second_derivative(kind, y):
    """f''(x) from y = f(x): tanh -2 y (1 - y^2), softplus (1 - exp(-y)) exp(-y)."""
    if kind == TANH:
        return all_of(y, -2.0) * y * (all_of(y, 1.0) - y * y)
    d = expm1(all_of(y, 0.0) - y)
    return (all_of(y, 0.0) - d) * (d + all_of(y, 1.0))


@kernel
def _keep(ws, at, value, count):
    """ws[at : at + count] = the first lanes of a vector."""
    if count >= VECTOR_BYTES // ws.itemsize:
        store(ws, at, value)
    else:
        store_first(ws, at, value, count)


@kernel
def _forward(ws, it, n, x, y):
    """y = f(x)."""
    width = VECTOR_BYTES // ws.itemsize
    kind, cp = it.kind, it.cp
    zero = splat(ws.dtype.type(0.0))
    for i in range(n):
        for r in range(it.h):
            at, to = x + i * it.x_n + r * it.x_r, y + i * it.y_n + r * it.y_r
            if kind == RELU:
                for q in range(0, it.w * cp, width):
                    store(ws, to + q, maximum(load(ws, at + q), zero))
                continue
            for p in range(0, it.w * cp, cp):
                for q in range(0, it.c, width):
                    v = load(ws, at + p + q)
                    _keep(ws, to + p + q, tanh(v) if kind == TANH else softplus(v), it.c - q)


@kernel
def _backward(ws, it, n, y, dy, dx):
    """dx = f'(x) dy."""
    width = VECTOR_BYTES // ws.itemsize
    kind, cp = it.kind, it.cp
    for i in range(n):
        for r in range(it.h):
            at, to = dx + i * it.x_n + r * it.x_r, i * it.y_n + r * it.y_r
            if kind == RELU:
                for q in range(0, it.w * cp, width):
                    store(ws, at + q, where_positive(load(ws, y + to + q), load(ws, dy + to + q)))
                continue
            for p in range(0, it.w * cp, cp):
                for q in range(p, p + it.c, width):
                    slope = derivative(kind, load(ws, y + to + q))
                    _keep(ws, at + q, slope * load(ws, dy + to + q), p + it.c - q)


@kernel
def _forward_tangent(ws, it, n, y, x_dot, y_dot):
    """y_dot = f'(x) x_dot."""
    width = VECTOR_BYTES // ws.itemsize
    kind, cp = it.kind, it.cp
    for i in range(n):
        for r in range(it.h):
            at, to = x_dot + i * it.x_n + r * it.x_r, i * it.y_n + r * it.y_r
            if kind == RELU:
                for q in range(0, it.w * cp, width):
                    store(ws, y_dot + to + q, where_positive(load(ws, y + to + q), load(ws, at + q)))
                continue
            for p in range(0, it.w * cp, cp):
                for q in range(p, p + it.c, width):
                    slope = derivative(kind, load(ws, y + to + q))
                    _keep(ws, y_dot + to + q, slope * load(ws, at + q), p + it.c - q)


@kernel
def _backward_tangent(ws, it, n, y, x_dot, dy, dy_dot, dx_dot):
    """dx_dot = f'(x) dy_dot + f''(x) x_dot dy."""
    _backward(ws, it, n, y, dy_dot, dx_dot)
    width = VECTOR_BYTES // ws.itemsize
    kind, cp = it.kind, it.cp
    if kind == RELU:
        return
    for i in range(n):
        for r in range(it.h):
            at, to = i * it.x_n + r * it.x_r, i * it.y_n + r * it.y_r
            for p in range(0, it.w * cp, cp):
                for q in range(p, p + it.c, width):
                    bend = second_derivative(kind, load(ws, y + to + q)) * load(ws, dy + to + q)
                    value = load(ws, dx_dot + at + q) + bend * load(ws, x_dot + at + q)
                    _keep(ws, dx_dot + at + q, value, p + it.c - q)
