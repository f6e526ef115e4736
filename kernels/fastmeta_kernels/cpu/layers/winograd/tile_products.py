"""Winograd's small products of tiles carried out, of stride 1: 36 small products instead of 9 large ones.

A block of tiles is transformed, multiplied frequency by frequency and transformed back before the next one, in a panel
that each thread has for itself. The gradient of a weight is the adjoint, summed over fixed parts of the tiles.
"""

from __future__ import annotations

from fastmeta_kernels.cpu.layers.winograd.tiles import from_image, from_weight, to_image, to_weight
from fastmeta_kernels.cpu.layout.instruction import (
    WINOGRAD,
    WINOGRAD_GRADIENT,
    WINOGRAD_SUMS,
    WINOGRAD_WEIGHT,
    one,
    place,
    share,
    vectors,
)
from fastmeta_kernels.cpu.layout.layer import CACHE_LINE
from fastmeta_kernels.cpu.layout.winograd import BLOCK, FREQUENCIES, PATCH, TILE
from fastmeta_kernels.cpu.machine.jit import kernel
from fastmeta_kernels.cpu.machine.product import product
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES


@kernel
def _panel(job, it, part):
    """Where this part's panel begins, and the channels' planes behind the values on their way."""
    start = job.workspace_size + (part - 1) * it.panel
    return start, start + FREQUENCIES * max(it.cp, it.ocp)


@kernel
def run_convolve(ws, job, code, l, now, part, parts):
    """One part of WINOGRAD: a share of the tiles, block by block."""
    it = one(WINOGRAD, code, l)
    x, x2 = place(now, it.x), place(now, it.x2)
    u, u2 = place(now, it.u), place(now, it.u2)
    bias, y = place(now, it.bias), place(now, it.y)
    pair, relu = it.x2 != 0, it.relu != 0
    back, shift = it.back != 0, it.shift
    c, o = it.cp, it.ocp
    xn, yn = it.x_n, it.y_n
    xr, yr = it.x_r, it.y_r
    h, oh = it.h, it.oh
    w, ow = it.w, it.ow
    if back:
        c, o = o, c
        xn, yn = yn, xn
        xr, yr = yr, xr
        h, oh = oh, h
        w, ow = ow, w
    temporary, v = _panel(job, it, part)
    line, zero = CACHE_LINE // ws.itemsize, 0
    alpha = ws.dtype.type(1.0)
    v_plane, m_plane = BLOCK * c + line, BLOCK * o + line  # one line more: planes do not share sets of the cache
    v2 = v + FREQUENCIES * v_plane
    m = v2 + FREQUENCIES * v_plane if pair else v2
    tall, wide = (oh + TILE - 1) // TILE, (ow + TILE - 1) // TILE
    low, high = share(it.n * tall * wide, part, parts)
    for tile in range(low, high, BLOCK):
        n = min(BLOCK, high - tile)
        from_image(ws, tile, n, x, xn, xr, c, h, w, shift, tall, wide, PATCH, temporary, v, c, v_plane)
        if pair:
            from_image(ws, tile, n, x2, xn, xr, c, h, w, shift, tall, wide, PATCH, temporary, v2, c, v_plane)
        for f in range(FREQUENCIES):
            a, b = v + f * v_plane, u + f * c * o
            to = m + f * m_plane
            product(ws, n, o, 2 if pair else 1, c, a, c, 1, v2 - v, b, o, u2 - u, to, o, zero, 0, alpha, False)
        to_image(ws, tile, n, m, m_plane, o, temporary, y, yn, yr, oh, ow, tall, wide, bias, relu)


@kernel
def run_sums(ws, job, code, l, now, part, parts):
    """One part of WINOGRAD_SUMS: products over the tiles of a partial sum, for some channels where threads are many."""
    it = one(WINOGRAD_SUMS, code, l)
    x, x2 = place(now, it.x), place(now, it.x2)
    dy, dy2 = place(now, it.dy), place(now, it.dy2)
    pair, sums = it.x2 != 0, it.sums
    count, shift = it.parts, it.padding
    c, o = it.cp, it.ocp
    xn, yn = it.x_n, it.y_n
    xr, yr = it.x_r, it.y_r
    h, oh = it.h, it.oh
    w, ow = it.w, it.ow
    temporary, v = _panel(job, it, part)
    width, line = VECTOR_BYTES // ws.itemsize, CACHE_LINE // ws.itemsize
    alpha = ws.dtype.type(1.0)
    tall, wide = (oh + TILE - 1) // TILE, (ow + TILE - 1) // TILE
    slabs = min((parts + count - 1) // count, c // width)
    begin, end = share(count * slabs, part, parts)
    for unit in range(begin, end):
        first, last = share(c // width, unit % slabs, slabs)
        depth, first = (last - first) * width, first * width
        v_plane, m_plane = BLOCK * depth + line, BLOCK * o + line
        v2 = v + FREQUENCIES * v_plane
        m = v2 + FREQUENCIES * v_plane if pair else v2
        m2 = m + FREQUENCIES * m_plane
        low, high = share(it.n * tall * wide, unit // slabs, count)
        for tile in range(low, high, BLOCK):
            n = min(BLOCK, high - tile)
            from_image(ws, tile, n, x + first, xn, xr, c, h, w, shift, tall, wide, PATCH, temporary, v, depth, v_plane)
            from_image(ws, tile, n, dy, yn, yr, o, oh, ow, 0, tall, wide, TILE, temporary, m, o, m_plane)
            if pair:
                from_image(
                    ws, tile, n, x2 + first, xn, xr, c, h, w, shift, tall, wide, PATCH, temporary, v2, depth, v_plane
                )
                from_image(ws, tile, n, dy2, yn, yr, o, oh, ow, 0, tall, wide, TILE, temporary, m2, o, m_plane)
            for f in range(FREQUENCIES):
                a, b = v + f * v_plane, m + f * m_plane
                to = sums + ((unit // slabs * FREQUENCIES + f) * c + first) * o
                d, ldd = (to, o) if tile > low else (0, 0)
                product(
                    ws, depth, o, 2 if pair else 1, n, a, 1, depth, v2 - v, b, o, m2 - m, to, o, d, ldd, alpha, False
                )


@kernel
def run_weight(ws, job, code, l, now, part, parts):
    """One part of WINOGRAD_WEIGHT."""
    it = one(WINOGRAD_WEIGHT, code, l)
    first, last = vectors(ws, it.cp * it.ocp, part, parts)
    temporary, _ = _panel(job, it, part)
    from_weight(ws, place(now, it.a), place(now, it.out), it.cp * it.ocp, first, last, temporary)


@kernel
def run_gradient(ws, job, code, l, now, part, parts):
    """One part of WINOGRAD_GRADIENT."""
    it = one(WINOGRAD_GRADIENT, code, l)
    first, last = vectors(ws, it.cp * it.ocp, part, parts)
    temporary, _ = _panel(job, it, part)
    out, size = place(now, it.out), it.cp * it.ocp
    sign = ws.dtype.type(now.sign)
    to_weight(ws, it.sums, it.parts, out, size, first, last, temporary, it.add != 0, sign)
