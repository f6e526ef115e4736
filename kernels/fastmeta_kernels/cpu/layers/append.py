"""Learned values behind the features of every sample in a workspace: y = [x, values], and its tangents the same map."""

from __future__ import annotations

from fastmeta_kernels.cpu.layout.instruction import (
    APPEND,
    APPEND_BACKWARD,
    APPEND_GRADIENT,
    SAMPLES,
    SERIAL,
    Code,
    Operand,
    one,
    place,
)
from fastmeta_kernels.cpu.layout.layer import Layer
from fastmeta_kernels.cpu.layout.places import Into, Places
from fastmeta_kernels.cpu.machine.jit import inlined, kernel

RECTIFIES, MASKS_INPUTS = False, False


def forward(code: Code, layer: Layer, at: Places) -> None:
    """y = [x, values]."""
    code.add(APPEND, SAMPLES, layer, x=at.x, values=at.weight, y=at.y, given=True)


def forward_tangent(code: Code, layer: Layer, at: Places) -> None:
    """y_dot = [x_dot, values_dot], x_dot 0 at the first layer with parameters."""
    code.add(APPEND, SAMPLES, layer, x=at.x_dot, values=at.weight_dot, y=at.y_dot, given=at.inner)


def backward(code: Code, layer: Layer, at: Places, into: Into | None, transpose: bool) -> None:
    """dvalues = sum over samples of dy behind x, dx = dy before it."""
    _back(code, layer, at, at.dy, at.dx, into)


def backward_tangent(code: Code, layer: Layer, at: Places, into: Into) -> None:
    """The same of dy_dot: the layer is linear."""
    _back(code, layer, at, at.dy_dot, at.dx_dot, into)


def _back(code: Code, layer: Layer, at: Places, dy: Operand, dx: Operand, into: Into | None) -> None:
    if into:
        code.add(APPEND_GRADIENT, SERIAL, layer, dy=dy, values=into.weight, add=into.adds)
    if at.inner:
        code.add(APPEND_BACKWARD, SAMPLES, layer, dy=dy, dx=dx)


@inlined
def run_forward(ws, code, l, now, first, last):
    """APPEND, of samples first .. last."""
    it = one(APPEND, code, l)
    x, y = place(now, it.x), place(now, it.y)
    values, given = place(now, it.values), it.given != 0
    c, o = it.c, it.oc
    for i in range(first, last):
        at, to = x + i * it.x_n, y + i * it.y_n
        for j in range(c):
            ws[to + j] = ws[at + j] if given else 0
        for j in range(c, o):
            ws[to + j] = ws[values + j - c]


@inlined
def run_backward(ws, code, l, now, first, last):
    """APPEND_BACKWARD, of samples first .. last."""
    it = one(APPEND_BACKWARD, code, l)
    dy, dx = place(now, it.dy), place(now, it.dx)
    for i in range(first, last):
        for j in range(it.c):
            ws[dx + i * it.x_n + j] = ws[dy + i * it.y_n + j]


@kernel
def run_gradient(ws, code, l, now):
    """APPEND_GRADIENT: values = sum over samples of dy behind x, or values += sign * that."""
    it = one(APPEND_GRADIENT, code, l)
    values = place(now, it.values)
    for j in range(it.oc - it.c):
        dy, total = place(now, it.dy) + it.c + j, 0.0
        for i in range(it.n):
            total += ws[dy + i * it.y_n]
        ws[values + j] = ws[values + j] + now.sign * total if it.add != 0 else total
