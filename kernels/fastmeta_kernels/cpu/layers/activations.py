"""ReLU, tanh and softplus in a workspace, told apart by `code[l, KIND]`; y' and y'' are functions of y alone.

Smooth ones walk the C channels that carry data and leave the padding at zero.
"""

from __future__ import annotations

import numpy as np

from fastmeta_kernels.cpu.layout.network import CP, KIND, OCP, OH, OW, X_N, X_R, Y_N, Y_R, C, H, W
from fastmeta_kernels.cpu.machine.jit import kernel
from fastmeta_kernels.cpu.machine.selection import where_positive
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES, load, maximum, splat, store
from fastmeta_kernels.layer_table import RELU, TANH


@kernel
def mask_relu(ws, code, l, n, y, value):
    """value = value where y > 0, else 0, at the outputs of row l: the derivative of a ReLU that a row took over."""
    width = VECTOR_BYTES // ws.itemsize
    rows, length = code[l, OH], code[l, OW] * code[l, OCP]
    if code[l, Y_N] == rows * length:  # one run
        n, rows, length = 1, 1, n * rows * length
    for i in range(n):
        for r in range(rows):
            at = i * code[l, Y_N] + r * code[l, Y_R]
            for q in range(at, at + length, width):
                store(ws, value + q, where_positive(load(ws, y + q), load(ws, value + q)))


@kernel
def derivative(kind, y):
    """f'(x) from y = f(x): tanh 1 - y^2, softplus 1 - exp(-y)."""
    return 1 - y * y if kind == TANH else -np.expm1(-y)


@kernel
def second_derivative(kind, y):
    """f''(x) from y = f(x): tanh -2 y (1 - y^2), softplus (1 - exp(-y)) exp(-y)."""
    return -2 * y * (1 - y * y) if kind == TANH else -np.expm1(-y) * np.exp(-y)


@kernel
def forward(ws, code, l, n, x, y):
    """y = f(x)."""
    width = VECTOR_BYTES // ws.itemsize
    kind, cp, zero = code[l, KIND], code[l, CP], splat(ws.dtype.type(0.0))
    for i in range(n):
        for r in range(code[l, H]):
            at, to = x + i * code[l, X_N] + r * code[l, X_R], y + i * code[l, Y_N] + r * code[l, Y_R]
            if kind == RELU:
                for q in range(0, code[l, W] * cp, width):
                    store(ws, to + q, maximum(load(ws, at + q), zero))
                continue
            for p in range(0, code[l, W] * cp, cp):
                for q in range(p, p + code[l, C]):
                    v = ws[at + q]
                    if kind == TANH:
                        ws[to + q] = np.tanh(v)
                    else:
                        ws[to + q] = np.log1p(np.exp(-abs(v))) + max(v, ws.dtype.type(0.0))


@kernel
def backward(ws, code, l, n, y, dy, dx):
    """dx = f'(x) dy."""
    width = VECTOR_BYTES // ws.itemsize
    kind, cp = code[l, KIND], code[l, CP]
    for i in range(n):
        for r in range(code[l, H]):
            at, to = dx + i * code[l, X_N] + r * code[l, X_R], i * code[l, Y_N] + r * code[l, Y_R]
            if kind == RELU:
                for q in range(0, code[l, W] * cp, width):
                    store(ws, at + q, where_positive(load(ws, y + to + q), load(ws, dy + to + q)))
                continue
            for p in range(0, code[l, W] * cp, cp):
                for q in range(p, p + code[l, C]):
                    ws[at + q] = derivative(kind, ws[y + to + q]) * ws[dy + to + q]


@kernel
def forward_tangent(ws, code, l, n, y, x_dot, y_dot):
    """y_dot = f'(x) x_dot."""
    width = VECTOR_BYTES // ws.itemsize
    kind, cp = code[l, KIND], code[l, CP]
    for i in range(n):
        for r in range(code[l, H]):
            at, to = x_dot + i * code[l, X_N] + r * code[l, X_R], i * code[l, Y_N] + r * code[l, Y_R]
            if kind == RELU:
                for q in range(0, code[l, W] * cp, width):
                    store(ws, y_dot + to + q, where_positive(load(ws, y + to + q), load(ws, at + q)))
                continue
            for p in range(0, code[l, W] * cp, cp):
                for q in range(p, p + code[l, C]):
                    ws[y_dot + to + q] = derivative(kind, ws[y + to + q]) * ws[at + q]


@kernel
def backward_tangent(ws, code, l, n, y, x_dot, dy, dy_dot, dx_dot):
    """dx_dot = f'(x) dy_dot + f''(x) x_dot dy."""
    backward(ws, code, l, n, y, dy_dot, dx_dot)
    kind, cp = code[l, KIND], code[l, CP]
    if kind == RELU:
        return
    for i in range(n):
        for r in range(code[l, H]):
            at, to = i * code[l, X_N] + r * code[l, X_R], i * code[l, Y_N] + r * code[l, Y_R]
            for p in range(0, code[l, W] * cp, cp):
                for q in range(p, p + code[l, C]):
                    bend = second_derivative(kind, ws[y + to + q])
                    ws[dx_dot + at + q] += bend * ws[x_dot + at + q] * ws[dy + to + q]
