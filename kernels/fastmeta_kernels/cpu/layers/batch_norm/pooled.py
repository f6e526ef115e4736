"""Max-pool behind batch norm in one pass: y = max over 2 x 2 of max(scale xh + shift, low), low 0 (ReLU) or -inf.

The normalised image is never stored. Whoever needs to know where a window's largest value was, the first in row order,
computes the window again from x and the statistics; where none exceeds `low` no gradient passes. The sums over a set
are those of `batch_norm` with dy at the chosen pixels and 0 elsewhere. Derivations: kernels/mathematics.md.

A pixel's vectors of channels follow each other in the innermost loop, so that images come from memory in one stream;
constants and sums are read from the cache. Behind a row's four statistics lie two more, for the sums of a line.
"""

from __future__ import annotations

import numpy as np

from fastmeta_kernels.cpu.layers.batch_norm.values import RECTIFIED
from fastmeta_kernels.cpu.layout.instruction import POOL_FORWARD, POOL_SUMS, one, place, share, vectors
from fastmeta_kernels.cpu.layout.layer import POOLED_SIZE as SIZE
from fastmeta_kernels.cpu.machine.jit import inlined, kernel
from fastmeta_kernels.cpu.machine.selection import where_above, where_equal
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES, load, maximum, splat, store


@inlined
def _maximum(ws, x, line, cp, mean, gain, offset, low):
    """The largest of a window that starts at x, or low."""
    top = low
    for dr in range(SIZE):
        for dq in range(SIZE):
            top = maximum(gain * (load(ws, x + dr * line + dq * cp) - mean) + offset, top)
    return top


@inlined
def chosen_place(ws, x, line, cp, mean, gain, offset, low):
    """The number, 0, 1, ... in row order, of the first largest of a window; -1 where none exceeds low."""
    top, chosen = low, splat(ws.dtype.type(-1.0))
    for dr in range(SIZE):
        for dq in range(SIZE):
            value = gain * (load(ws, x + dr * line + dq * cp) - mean) + offset
            chosen = where_above(value, top, splat(ws.dtype.type(dr * SIZE + dq)), chosen)
            top = where_above(value, top, value, top)
    return chosen


@inlined
def at_chosen(ws, x, line, cp, chosen):
    """The values at the chosen places of a window, 0 where there is none."""
    found = splat(ws.dtype.type(0.0))
    for dr in range(SIZE):
        for dq in range(SIZE):
            value = load(ws, x + dr * line + dq * cp)
            found = where_equal(chosen, splat(ws.dtype.type(dr * SIZE + dq)), value, found)
    return found


@inlined
def _gradient(ws, at, d, mean, gain, slope, level):
    """Of x, where dy is d."""
    return gain * (d - level - (load(ws, at) - mean) * slope)


@kernel
def sum_up(ws, line, sums, cp, first, last):
    """sums += the two sums of a line, which become 0."""
    width, zero = VECTOR_BYTES // ws.itemsize, splat(ws.dtype.type(0.0))
    for k in range(0, 2 * cp, cp):
        for j in range(k + first, k + last, width):
            store(ws, sums + j, load(ws, sums + j) + load(ws, line + j))
            store(ws, line + j, zero)


@inlined
def constants(ws, cp, scale, shift, stats, j):
    """mean, gain and offset of channels j ..: the normalised value is gain (x - mean) + offset."""
    return load(ws, stats + j), load(ws, stats + cp + j) * load(ws, scale + j), load(ws, shift + j)


@kernel
def _forward(ws, it, begin, end, x, y, scale, shift, stats, low):
    cp, line = it.cp, it.x_r
    width = VECTOR_BYTES // ws.itemsize
    for i in range(begin, end):
        for r in range(it.oh):
            at, to = x + i * it.x_n + r * SIZE * line, y + i * it.y_n + r * it.y_r
            for _ in range(it.ow):
                for j in range(0, cp, width):
                    mean, gain, offset = constants(ws, cp, scale, shift, stats, j)
                    store(ws, to + j, _maximum(ws, at + j, line, cp, mean, gain, offset, low))
                at, to = at + SIZE * cp, to + cp


@kernel
def _sums(ws, it, first, last, x, dy, scale, shift, stats, low):
    cp, line = it.cp, it.x_r
    width = VECTOR_BYTES // ws.itemsize
    sums, parts = stats + 2 * cp, stats + 4 * cp
    zero, none = splat(ws.dtype.type(0.0)), splat(ws.dtype.type(-1.0))
    for k in range(sums, sums + 4 * cp, cp):
        for j in range(k + first, k + last, width):
            store(ws, j, zero)
    for i in range(it.n):
        for r in range(it.oh):
            at, to = x + i * it.x_n + r * SIZE * line, dy + i * it.y_n + r * it.y_r
            for _ in range(it.ow):
                for j in range(first, last, width):
                    mean, gain, offset = constants(ws, cp, scale, shift, stats, j)
                    chosen = chosen_place(ws, at + j, line, cp, mean, gain, offset, low)
                    d = where_equal(chosen, none, zero, load(ws, to + j))
                    e = at_chosen(ws, at + j, line, cp, chosen) - mean
                    store(ws, parts + j, load(ws, parts + j) + d * e)
                    store(ws, parts + cp + j, load(ws, parts + cp + j) + d)
                at, to = at + SIZE * cp, to + cp
            sum_up(ws, parts, sums, cp, first, last)
    for j in range(first, last, width):
        store(ws, sums + j, load(ws, sums + j) * load(ws, stats + cp + j))


@kernel
def _backward(ws, it, begin, end, x, dy, scale, shift, dx, stats, low):
    cp, line = it.cp, it.x_r
    width = VECTOR_BYTES // ws.itemsize
    zero, share = splat(ws.dtype.type(0.0)), splat(ws.dtype.type(1.0 / (it.n * it.h * it.w)))
    back = dx - x
    lines, pixels = it.oh * SIZE, it.ow * SIZE
    for i in range(begin, end):
        image = x + i * it.x_n
        for r in range(it.oh):
            at, to = image + r * SIZE * line, dy + i * it.y_n + r * it.y_r
            for _ in range(it.ow):
                for j in range(0, cp, width):
                    mean, gain, offset = constants(ws, cp, scale, shift, stats, j)
                    slope = load(ws, stats + 2 * cp + j) * load(ws, stats + cp + j) * share
                    level = load(ws, stats + 3 * cp + j) * share
                    chosen = chosen_place(ws, at + j, line, cp, mean, gain, offset, low)
                    d = load(ws, to + j)
                    for dr in range(SIZE):
                        for dq in range(SIZE):
                            p = at + dr * line + dq * cp + j
                            one = where_equal(chosen, splat(ws.dtype.type(dr * SIZE + dq)), d, zero)
                            store(ws, p + back, _gradient(ws, p, one, mean, gain, slope, level))
                at, to = at + SIZE * cp, to + cp
        for r in range(it.h):  # what no window covers
            for p in range(image + r * line + (pixels if r < lines else 0) * cp, image + r * line + it.w * cp, cp):
                for j in range(0, cp, width):
                    mean, gain, offset = constants(ws, cp, scale, shift, stats, j)
                    slope = load(ws, stats + 2 * cp + j) * load(ws, stats + cp + j) * share
                    level = load(ws, stats + 3 * cp + j) * share
                    none = load(ws, j)  # zeros; known, which of the two products is rounded is the compiler's choice
                    store(ws, p + j + back, gain * (none - (load(ws, p + j) - mean) * slope - level))


@inlined
def lower_bound(ws, it):
    """What a value must exceed."""
    return splat(ws.dtype.type(0.0 if it.flags & RECTIFIED else -np.inf))


@inlined
def run(ws, code, l, now, part, parts):
    """One part of POOL_FORWARD or POOL_BACKWARD, of some images, or of POOL_SUMS, of some channels."""
    it = one(POOL_FORWARD, code, l)
    x, dy = place(now, it.x), place(now, it.dy)
    out, stats = place(now, it.out), place(now, it.stats)
    scale, shift = place(now, it.scale), place(now, it.shift)
    low = lower_bound(ws, it)
    if it.op == POOL_SUMS:
        first, last = vectors(ws, it.cp, part, parts)
        _sums(ws, it, first, last, x, dy, scale, shift, stats, low)
        return
    begin, end = share(it.n, part, parts)
    if it.op == POOL_FORWARD:
        _forward(ws, it, begin, end, x, out, scale, shift, stats, low)
    else:
        _backward(ws, it, begin, end, x, dy, scale, shift, out, stats, low)
