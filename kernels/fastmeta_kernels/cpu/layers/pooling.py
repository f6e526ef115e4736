"""Max pool, global mean pool and the flattening copy in a workspace: linear maps once the maxima are known.

The tangent of each is the map itself, so forward_tangent moves x_dot like x and backward serves dy and dy_dot.

Longer than 200 lines because three maps of one kind, with their adjoints, are one file.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastmeta_kernels.cpu.layout.instruction import (
    FLATTEN_BACKWARD,
    FLATTEN_FORWARD,
    MAX_BACKWARD,
    MAX_FORWARD,
    MAX_SELECT,
    MEAN_BACKWARD,
    MEAN_FORWARD,
    SAMPLES,
    Code,
    one,
    place,
)
from fastmeta_kernels.cpu.layout.layer import Layer
from fastmeta_kernels.cpu.layout.places import Into, Places
from fastmeta_kernels.cpu.machine.jit import kernel
from fastmeta_kernels.cpu.machine.selection import where_equal
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES, load, maximum, splat, store


@dataclass(frozen=True)
class LinearMap:
    """A layer that is linear, by the instructions of its map and of the map's adjoint."""

    along: int
    back: int
    RECTIFIES, MASKS_INPUTS = False, False

    def forward(self, code: Code, layer: Layer, at: Places) -> None:
        """y = A x."""
        code.add(self.along, SAMPLES, layer, x=at.x, y=at.y)

    def forward_tangent(self, code: Code, layer: Layer, at: Places) -> None:
        """y_dot = A x_dot."""
        code.add(self.along, SAMPLES, layer, x=at.x_dot, y=at.y_dot)

    def backward(self, code: Code, layer: Layer, at: Places, into: Into | None, transpose: bool) -> None:
        """dx = A^T dy."""
        code.add(self.back, SAMPLES, layer, dy=at.dy, dx=at.dx)

    def backward_tangent(self, code: Code, layer: Layer, at: Places, into: Into) -> None:
        """dx_dot = A^T dy_dot."""
        code.add(self.back, SAMPLES, layer, dy=at.dy_dot, dx=at.dx_dot)


class MaxPool:
    """The maximum of each window: linear in x_dot, dy and dy_dot where the maxima are known."""

    RECTIFIES, MASKS_INPUTS = False, False

    def forward(self, code: Code, layer: Layer, at: Places) -> None:
        """y = max x."""
        code.add(MAX_FORWARD, SAMPLES, layer, x=at.x, y=at.y)

    def forward_tangent(self, code: Code, layer: Layer, at: Places) -> None:
        """y_dot = x_dot at the maximum."""
        code.add(MAX_SELECT, SAMPLES, layer, x=at.x, y=at.y, x_dot=at.x_dot, y_dot=at.y_dot)

    def backward(self, code: Code, layer: Layer, at: Places, into: Into | None, transpose: bool) -> None:
        """dx = dy at the maximum."""
        code.add(MAX_BACKWARD, SAMPLES, layer, x=at.x, y=at.y, dy=at.dy, dx=at.dx)

    def backward_tangent(self, code: Code, layer: Layer, at: Places, into: Into) -> None:
        """dx_dot = dy_dot at the maximum."""
        code.add(MAX_BACKWARD, SAMPLES, layer, x=at.x, y=at.y, dy=at.dy_dot, dx=at.dx_dot)


MAX = MaxPool()
MEAN = LinearMap(MEAN_FORWARD, MEAN_BACKWARD)
FLATTEN = LinearMap(FLATTEN_FORWARD, FLATTEN_BACKWARD)


@kernel
def run_max_forward(ws, code, l, now, first, last):
    """MAX_FORWARD of samples first .. last: y = maximum of each size x size window."""
    it = one(MAX_FORWARD, code, l)
    x, y = place(now, it.x), place(now, it.y)
    width, size = VECTOR_BYTES // ws.itemsize, it.kernel
    cp, ocp = it.cp, it.ocp
    for i in range(first, last):
        for r in range(it.oh):
            for q in range(it.ow):
                at = x + i * it.x_n + r * size * it.x_r + q * size * cp
                to = y + i * it.y_n + r * it.y_r + q * ocp
                for j in range(0, cp, width):
                    top = load(ws, at + j)
                    for dr in range(size):
                        for dq in range(size):
                            top = maximum(load(ws, at + dr * it.x_r + dq * cp + j), top)
                    store(ws, to + j, top)


@kernel
def run_max_select(ws, code, l, now, first, last):
    """MAX_SELECT of samples first .. last: y_dot = x_dot at the first maximum of each window in row order."""
    it = one(MAX_SELECT, code, l)
    x, y = place(now, it.x), place(now, it.y)
    x_dot, y_dot = place(now, it.x_dot), place(now, it.y_dot)
    width, size = VECTOR_BYTES // ws.itemsize, it.kernel
    cp, ocp = it.cp, it.ocp
    zero, whole = splat(ws.dtype.type(0.0)), splat(ws.dtype.type(1.0))
    for i in range(first, last):
        for r in range(it.oh):
            for q in range(it.ow):
                at = i * it.x_n + r * size * it.x_r + q * size * cp
                to = i * it.y_n + r * it.y_r + q * ocp
                for j in range(0, cp, width):
                    top = load(ws, y + to + j)
                    chosen, free = zero, whole
                    for dr in range(size):
                        for dq in range(size):
                            p = at + dr * it.x_r + dq * cp + j
                            found = where_equal(load(ws, x + p), top, free, zero)
                            chosen = where_equal(found, whole, load(ws, x_dot + p), chosen)
                            free = free - found
                    store(ws, y_dot + to + j, chosen)


@kernel
def run_max_backward(ws, code, l, now, first, last):
    """MAX_BACKWARD of samples first .. last: dx = dy at the first maximum of each window, 0 elsewhere.

    What no window covers stays 0.
    """
    it = one(MAX_BACKWARD, code, l)
    x, y = place(now, it.x), place(now, it.y)
    dy, dx = place(now, it.dy), place(now, it.dx)
    width, size = VECTOR_BYTES // ws.itemsize, it.kernel
    cp, ocp = it.cp, it.ocp
    zero = splat(ws.dtype.type(0.0))
    for i in range(first, last):
        for r in range(it.oh):
            for q in range(it.ow):
                at = i * it.x_n + r * size * it.x_r + q * size * cp
                to = i * it.y_n + r * it.y_r + q * ocp
                for j in range(0, cp, width):
                    top, left = load(ws, y + to + j), load(ws, dy + to + j)
                    for dr in range(size):
                        for dq in range(size):
                            p = at + dr * it.x_r + dq * cp + j
                            value = load(ws, x + p)
                            store(ws, dx + p, where_equal(value, top, left, zero))
                            left = where_equal(value, top, zero, left)


@kernel
def run_mean_forward(ws, code, l, now, first, last):
    """MEAN_FORWARD of samples first .. last: y[c] = mean of x[h, w, c]."""
    it = one(MEAN_FORWARD, code, l)
    x, y = place(now, it.x), place(now, it.y)
    width, cp = VECTOR_BYTES // ws.itemsize, it.cp
    share = splat(ws.dtype.type(1.0 / (it.h * it.w)))
    for i in range(first, last):
        for j in range(0, cp, width):
            s = splat(ws.dtype.type(0.0))
            for r in range(it.h):
                at = x + i * it.x_n + r * it.x_r + j
                for q in range(at, at + it.w * cp, cp):
                    s = s + load(ws, q)
            store(ws, y + i * it.y_n + j, s * share)


@kernel
def run_mean_backward(ws, code, l, now, first, last):
    """MEAN_BACKWARD of samples first .. last: dx[h, w, c] = dy[c] / (H W)."""
    it = one(MEAN_BACKWARD, code, l)
    dy, dx = place(now, it.dy), place(now, it.dx)
    width, cp = VECTOR_BYTES // ws.itemsize, it.cp
    share = splat(ws.dtype.type(1.0 / (it.h * it.w)))
    for i in range(first, last):
        for j in range(0, cp, width):
            d = load(ws, dy + i * it.y_n + j) * share
            for r in range(it.h):
                at = dx + i * it.x_n + r * it.x_r + j
                for q in range(at, at + it.w * cp, cp):
                    store(ws, q, d)


@kernel
def run_flatten_forward(ws, code, l, now, first, last):
    """FLATTEN_FORWARD of samples first .. last: y[(h w c)] = x[h, w, c]."""
    it = one(FLATTEN_FORWARD, code, l)
    x, y = place(now, it.x), place(now, it.y)
    c = it.c
    for i in range(first, last):
        to = y + i * it.y_n
        for r in range(it.h):
            for q in range(it.w):
                at = x + i * it.x_n + r * it.x_r + q * it.cp
                for j in range(c):
                    ws[to + j] = ws[at + j]
                to += c


@kernel
def run_flatten_backward(ws, code, l, now, first, last):
    """FLATTEN_BACKWARD of samples first .. last: dx[h, w, c] = dy[(h w c)]."""
    it = one(FLATTEN_BACKWARD, code, l)
    dy, dx = place(now, it.dy), place(now, it.dx)
    c = it.c
    for i in range(first, last):
        at = dy + i * it.y_n
        for r in range(it.h):
            for q in range(it.w):
                to = dx + i * it.x_n + r * it.x_r + q * it.cp
                for j in range(c):
                    ws[to + j] = ws[at + j]
                at += c
