"""Max pool, global mean pool and the flattening copy in a workspace: linear maps once the maxima are known.

The tangent of each is the map itself, so forward_tangent moves x_dot like x and backward serves dy and dy_dot.
"""

from __future__ import annotations

from fastmeta_kernels.cpu.layout.network import CP, KERNEL, OCP, OH, OW, X_N, X_R, Y_N, Y_R, C, H, W
from fastmeta_kernels.cpu.machine.jit import kernel
from fastmeta_kernels.cpu.machine.selection import where_equal
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES, load, maximum, splat, store


@kernel
def max_forward(ws, code, l, n, x, y):
    """y = maximum of each size x size window."""
    width, size = VECTOR_BYTES // ws.itemsize, code[l, KERNEL]
    cp, ocp = code[l, CP], code[l, OCP]
    for i in range(n):
        for r in range(code[l, OH]):
            for q in range(code[l, OW]):
                at = x + i * code[l, X_N] + r * size * code[l, X_R] + q * size * cp
                to = y + i * code[l, Y_N] + r * code[l, Y_R] + q * ocp
                for j in range(0, cp, width):
                    top = load(ws, at + j)
                    for dr in range(size):
                        for dq in range(size):
                            top = maximum(load(ws, at + dr * code[l, X_R] + dq * cp + j), top)
                    store(ws, to + j, top)


@kernel
def max_select(ws, code, l, n, x, y, x_dot, y_dot):
    """y_dot = x_dot at the first maximum of each window in row order."""
    width, size = VECTOR_BYTES // ws.itemsize, code[l, KERNEL]
    cp, ocp = code[l, CP], code[l, OCP]
    zero, one = splat(ws.dtype.type(0.0)), splat(ws.dtype.type(1.0))
    for i in range(n):
        for r in range(code[l, OH]):
            for q in range(code[l, OW]):
                at = i * code[l, X_N] + r * size * code[l, X_R] + q * size * cp
                to = i * code[l, Y_N] + r * code[l, Y_R] + q * ocp
                for j in range(0, cp, width):
                    top, chosen, free = load(ws, y + to + j), zero, one
                    for dr in range(size):
                        for dq in range(size):
                            p = at + dr * code[l, X_R] + dq * cp + j
                            first = where_equal(load(ws, x + p), top, free, zero)
                            chosen = where_equal(first, one, load(ws, x_dot + p), chosen)
                            free = free - first
                    store(ws, y_dot + to + j, chosen)


@kernel
def max_backward(ws, code, l, n, x, y, dy, dx):
    """dx = dy at the first maximum of each window, 0 elsewhere; what no window covers stays 0."""
    width, size = VECTOR_BYTES // ws.itemsize, code[l, KERNEL]
    cp, ocp = code[l, CP], code[l, OCP]
    zero = splat(ws.dtype.type(0.0))
    for i in range(n):
        for r in range(code[l, OH]):
            for q in range(code[l, OW]):
                at = i * code[l, X_N] + r * size * code[l, X_R] + q * size * cp
                to = i * code[l, Y_N] + r * code[l, Y_R] + q * ocp
                for j in range(0, cp, width):
                    top, left = load(ws, y + to + j), load(ws, dy + to + j)
                    for dr in range(size):
                        for dq in range(size):
                            p = at + dr * code[l, X_R] + dq * cp + j
                            value = load(ws, x + p)
                            store(ws, dx + p, where_equal(value, top, left, zero))
                            left = where_equal(value, top, zero, left)


@kernel
def mean_forward(ws, code, l, n, x, y):
    """y[c] = mean of x[h, w, c]."""
    width, cp = VECTOR_BYTES // ws.itemsize, code[l, CP]
    share = splat(ws.dtype.type(1.0 / (code[l, H] * code[l, W])))
    for i in range(n):
        for j in range(0, cp, width):
            s = splat(ws.dtype.type(0.0))
            for r in range(code[l, H]):
                at = x + i * code[l, X_N] + r * code[l, X_R] + j
                for q in range(at, at + code[l, W] * cp, cp):
                    s = s + load(ws, q)
            store(ws, y + i * code[l, Y_N] + j, s * share)


@kernel
def mean_backward(ws, code, l, n, dy, dx):
    """dx[h, w, c] = dy[c] / (H W)."""
    width, cp = VECTOR_BYTES // ws.itemsize, code[l, CP]
    share = splat(ws.dtype.type(1.0 / (code[l, H] * code[l, W])))
    for i in range(n):
        for j in range(0, cp, width):
            d = load(ws, dy + i * code[l, Y_N] + j) * share
            for r in range(code[l, H]):
                at = dx + i * code[l, X_N] + r * code[l, X_R] + j
                for q in range(at, at + code[l, W] * cp, cp):
                    store(ws, q, d)


@kernel
def flatten_forward(ws, code, l, n, x, y):
    """y[(h w c)] = x[h, w, c]."""
    c = code[l, C]
    for i in range(n):
        to = y + i * code[l, Y_N]
        for r in range(code[l, H]):
            for q in range(code[l, W]):
                at = x + i * code[l, X_N] + r * code[l, X_R] + q * code[l, CP]
                for j in range(c):
                    ws[to + j] = ws[at + j]
                to += c


@kernel
def flatten_backward(ws, code, l, n, dy, dx):
    """dx[h, w, c] = dy[(h w c)]."""
    c = code[l, C]
    for i in range(n):
        at = dy + i * code[l, Y_N]
        for r in range(code[l, H]):
            for q in range(code[l, W]):
                to = dx + i * code[l, X_N] + r * code[l, X_R] + q * code[l, CP]
                for j in range(c):
                    ws[to + j] = ws[at + j]
                at += c
