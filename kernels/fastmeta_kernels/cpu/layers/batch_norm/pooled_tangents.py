"""Tangents of max-pool behind batch norm: the tangents of the values that `norm_pool` chose, and of their deltas."""

from __future__ import annotations

from fastmeta_kernels.cpu.layers.batch_norm.pooled import at_chosen, chosen_place, constants, lower_bound, sum_up
from fastmeta_kernels.cpu.layers.batch_norm.values import INNER
from fastmeta_kernels.cpu.layout.instruction import POOL_FORWARD_TANGENT, POOL_SUMS_TANGENT, one, place, share, vectors
from fastmeta_kernels.cpu.layout.layer import POOLED_SIZE as SIZE
from fastmeta_kernels.cpu.machine.jit import inlined, kernel
from fastmeta_kernels.cpu.machine.selection import where_equal
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES, load, splat, store


@kernel
def _forward(ws, it, begin, end, x, x_dot, scale, shift, scale_dot, shift_dot, y_dot, stats, tangents, inner, low):
    cp, line = it.cp, it.x_r
    width = VECTOR_BYTES // ws.itemsize
    zero, none = splat(ws.dtype.type(0.0)), splat(ws.dtype.type(-1.0))
    dot = x_dot - x
    for i in range(begin, end):
        for r in range(it.oh):
            at, to = x + i * it.x_n + r * SIZE * line, y_dot + i * it.y_n + r * it.y_r
            for _ in range(it.ow):
                for j in range(0, cp, width):
                    mean, gain, offset = constants(ws, cp, scale, shift, stats, j)
                    chosen = chosen_place(ws, at + j, line, cp, mean, gain, offset, low)
                    mean_dot, along = load(ws, tangents + j), load(ws, tangents + cp + j)
                    slope = (load(ws, scale_dot + j) - gain * along) * load(ws, stats + cp + j)
                    e = at_chosen(ws, at + j, line, cp, chosen) - mean
                    value = e * slope + load(ws, shift_dot + j)
                    if inner:
                        value = value + gain * (at_chosen(ws, at + dot + j, line, cp, chosen) - mean_dot)
                    store(ws, to + j, where_equal(chosen, none, zero, value))
                at, to = at + SIZE * cp, to + cp


@kernel
def _sums(ws, it, first, last, x, x_dot, dy, dy_dot, scale, shift, stats, tangents, inner, low):
    cp, line = it.cp, it.x_r
    width = VECTOR_BYTES // ws.itemsize
    sums, parts = tangents + 2 * cp, tangents + 4 * cp
    zero, none = splat(ws.dtype.type(0.0)), splat(ws.dtype.type(-1.0))
    dot, d_dot = x_dot - x, dy_dot - dy
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
                    rate = load(ws, stats + cp + j)
                    xh = (at_chosen(ws, at + j, line, cp, chosen) - mean) * rate
                    change = where_equal(chosen, none, zero, load(ws, to + d_dot + j))
                    part = load(ws, parts + j) + change * xh
                    if inner:
                        xh_dot = at_chosen(ws, at + dot + j, line, cp, chosen) - load(ws, tangents + j)
                        xh_dot = (xh_dot - xh * load(ws, tangents + cp + j)) * rate
                        part = part + where_equal(chosen, none, zero, load(ws, to + j)) * xh_dot
                    store(ws, parts + j, part)
                    store(ws, parts + cp + j, load(ws, parts + cp + j) + change)
                at, to = at + SIZE * cp, to + cp
            sum_up(ws, parts, sums, cp, first, last)


@inlined
def _gradient(ws, cp, j, at, dot, back, d, d_dot, scale, scale_dot, stats, tangents, share):
    """Store dx_dot of a pixel's channels j .. where dy is d and its tangent d_dot."""
    mean, rate = load(ws, stats + j), load(ws, stats + cp + j)
    mean_dot, along = load(ws, tangents + j), load(ws, tangents + cp + j)
    slope, level = load(ws, stats + 2 * cp + j) * share, load(ws, stats + 3 * cp + j) * share
    slope_dot, level_dot = load(ws, tangents + 2 * cp + j) * share, load(ws, tangents + 3 * cp + j) * share
    gain = rate * load(ws, scale + j)
    gain_dot = load(ws, scale_dot + j) * rate - gain * rate * along
    xh = (load(ws, at + j) - mean) * rate
    xh_dot = (load(ws, at + dot + j) - mean_dot - xh * along) * rate
    u = d - level - xh * slope
    u_dot = d_dot - level_dot - xh_dot * slope - xh * slope_dot
    store(ws, at + back + j, gain_dot * u + gain * u_dot)


@kernel
def _backward(ws, it, begin, end, x, x_dot, dy, dy_dot, scale, shift, scale_dot, dx_dot, stats, tangents, low):
    cp, line = it.cp, it.x_r
    width = VECTOR_BYTES // ws.itemsize
    zero, share = splat(ws.dtype.type(0.0)), splat(ws.dtype.type(1.0 / (it.n * it.h * it.w)))
    dot, back = x_dot - x, dx_dot - x
    move = dy_dot - dy
    lines, pixels = it.oh * SIZE, it.ow * SIZE
    for i in range(begin, end):
        image = x + i * it.x_n
        for r in range(it.oh):
            at, to = image + r * SIZE * line, dy + i * it.y_n + r * it.y_r
            for _ in range(it.ow):
                for j in range(0, cp, width):
                    mean, gain, offset = constants(ws, cp, scale, shift, stats, j)
                    chosen = chosen_place(ws, at + j, line, cp, mean, gain, offset, low)
                    d, d_dot = load(ws, to + j), load(ws, to + move + j)
                    for dr in range(SIZE):
                        for dq in range(SIZE):
                            p, place = at + dr * line + dq * cp, splat(ws.dtype.type(dr * SIZE + dq))
                            one, other = where_equal(chosen, place, d, zero), where_equal(chosen, place, d_dot, zero)
                            _gradient(ws, cp, j, p, dot, back, one, other, scale, scale_dot, stats, tangents, share)
                at, to = at + SIZE * cp, to + cp
        for r in range(it.h):  # what no window covers
            for p in range(image + r * line + (pixels if r < lines else 0) * cp, image + r * line + it.w * cp, cp):
                for j in range(0, cp, width):
                    _gradient(ws, cp, j, p, dot, back, zero, zero, scale, scale_dot, stats, tangents, share)


@inlined
def run(ws, code, l, now, part, parts):
    """One part of POOL_FORWARD_TANGENT or POOL_BACKWARD_TANGENT, of images, or of POOL_SUMS_TANGENT, of channels."""
    it = one(POOL_FORWARD_TANGENT, code, l)
    x, x_dot = place(now, it.x), place(now, it.x_dot)
    dy, dy_dot = place(now, it.dy), place(now, it.dy_dot)
    scale, shift = place(now, it.scale), place(now, it.shift)
    scale_dot, shift_dot = place(now, it.scale_dot), place(now, it.shift_dot)
    out = place(now, it.out)
    stats, tangents = place(now, it.stats), place(now, it.tangents)
    inner, low = it.flags & INNER != 0, lower_bound(ws, it)
    if it.op == POOL_SUMS_TANGENT:
        first, last = vectors(ws, it.cp, part, parts)
        _sums(ws, it, first, last, x, x_dot, dy, dy_dot, scale, shift, stats, tangents, inner, low)
        return
    begin, end = share(it.n, part, parts)
    if it.op == POOL_FORWARD_TANGENT:
        _forward(ws, it, begin, end, x, x_dot, scale, shift, scale_dot, shift_dot, out, stats, tangents, inner, low)
    else:
        _backward(ws, it, begin, end, x, x_dot, dy, dy_dot, scale, shift, scale_dot, out, stats, tangents, low)
