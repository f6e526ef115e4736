"""Winograd's F(4 x 4, 3 x 3) on vectors of channels: images to and from tiles, weights to and from frequencies.

A correlation of 6 values with 3 taps is a product at 6 points, one of them infinity (Winograd 1980; for convolutions
Lavin & Gray 2016, arXiv 1509.09308): y = A^T (G w * B^T x) in one dimension, in two along rows and columns. The finite
points are 0, +-a and +-b. With a = 5/8, b = 3/2, exact in binary, the error is half of what it is with the usual 1, 2.

    B^T x    at 0: x4 - (a^2 + b^2) x2 + a^2 b^2 x0
             at +-a: x4 - b^2 x2 +- a (x3 - b^2 x1), and at +-b likewise; at infinity: that at 0 of x1 .. x5
    G w      at p: (w0 + p w1 + p^2 w2) / N(p), N(p) = product of p - p' over the other finite points; at infinity: w2
    A^T m    yi = sum over p of p^i m(p), and y3 has m(infinity) too
"""

from __future__ import annotations

from fastmeta_kernels.cpu._jit import kernel
from fastmeta_kernels.cpu.vector import VECTOR_BYTES, load, maximum, splat, store
from fastmeta_kernels.cpu.winograd_layout import FREQUENCIES, PATCH, TAPS, TILE

LOW, HIGH = 0.625, 1.5  # the points a and b
LOW2, HIGH2 = LOW * LOW, HIGH * HIGH
AT_ZERO, AT_LOW, AT_HIGH = 1 / (LOW2 * HIGH2), 0.5 / (LOW2 * (LOW2 - HIGH2)), 0.5 / (HIGH2 * (HIGH2 - LOW2))  # 1 / N


@kernel
def _constant(ws, value):
    return splat(ws.dtype.type(value))


@kernel
def _from_patch(ws, target, step, x0, x1, x2, x3, x4, x5):
    """B^T x to places `step` apart."""
    low, high, low2, high2 = _constant(ws, LOW), _constant(ws, HIGH), _constant(ws, LOW2), _constant(ws, HIGH2)
    both, ends = _constant(ws, LOW2 + HIGH2), _constant(ws, LOW2 * HIGH2)
    even, odd = x4 - high2 * x2, low * (x3 - high2 * x1)
    more, less = x4 - low2 * x2, high * (x3 - low2 * x1)
    store(ws, target, ends * x0 - both * x2 + x4)
    store(ws, target + step, even + odd)
    store(ws, target + 2 * step, even - odd)
    store(ws, target + 3 * step, more + less)
    store(ws, target + 4 * step, more - less)
    store(ws, target + 5 * step, ends * x1 - both * x3 + x5)


@kernel
def _from_tile(ws, target, step, y0, y1, y2, y3):
    """A y to places `step` apart."""
    low, high, low2, high2 = _constant(ws, LOW), _constant(ws, HIGH), _constant(ws, LOW2), _constant(ws, HIGH2)
    even, odd = y0 + low2 * y2, low * (y1 + low2 * y3)
    more, less = y0 + high2 * y2, high * (y1 + high2 * y3)
    store(ws, target, y0)
    store(ws, target + step, even + odd)
    store(ws, target + 2 * step, even - odd)
    store(ws, target + 3 * step, more + less)
    store(ws, target + 4 * step, more - less)
    store(ws, target + 5 * step, y3)


@kernel
def _to_tile(ws, source, step):
    """A^T m of values `step` apart."""
    low, high, low2, high2 = _constant(ws, LOW), _constant(ws, HIGH), _constant(ws, LOW2), _constant(ws, HIGH2)
    m1, m2, m3, m4 = (
        load(ws, source + step),
        load(ws, source + 2 * step),
        load(ws, source + 3 * step),
        load(ws, source + 4 * step),
    )
    even, odd, more, less = m1 + m2, low * (m1 - m2), m3 + m4, high * (m3 - m4)
    return (
        load(ws, source) + even + more,
        odd + less,
        low2 * even + high2 * more,
        low2 * odd + high2 * less + load(ws, source + 5 * step),
    )


@kernel
def _from_taps(ws, target, step, w0, w1, w2):
    """G w to places `step` apart."""
    low, high, low2, high2 = _constant(ws, LOW), _constant(ws, HIGH), _constant(ws, LOW2), _constant(ws, HIGH2)
    at_low, at_high = _constant(ws, AT_LOW), _constant(ws, AT_HIGH)
    even, odd, more, less = w0 + low2 * w2, low * w1, w0 + high2 * w2, high * w1
    store(ws, target, _constant(ws, AT_ZERO) * w0)
    store(ws, target + step, at_low * (even + odd))
    store(ws, target + 2 * step, at_low * (even - odd))
    store(ws, target + 3 * step, at_high * (more + less))
    store(ws, target + 4 * step, at_high * (more - less))
    store(ws, target + 5 * step, w2)


@kernel
def _to_taps(ws, source, step):
    """G^T u of values `step` apart."""
    low, high, low2, high2 = _constant(ws, LOW), _constant(ws, HIGH), _constant(ws, LOW2), _constant(ws, HIGH2)
    at_low, at_high = _constant(ws, AT_LOW), _constant(ws, AT_HIGH)
    u1, u2, u3, u4 = (
        load(ws, source + step),
        load(ws, source + 2 * step),
        load(ws, source + 3 * step),
        load(ws, source + 4 * step),
    )
    even, more = at_low * (u1 + u2), at_high * (u3 + u4)
    return (
        _constant(ws, AT_ZERO) * load(ws, source) + even + more,
        low * at_low * (u1 - u2) + high * at_high * (u3 - u4),
        low2 * even + high2 * more + load(ws, source + 5 * step),
    )


@kernel
def from_image(ws, tile, count, x, xn, xr, cp, h, w, shift, tall, wide, size, temporary, v, depth, plane):
    """V[f, t, c] of `count` tiles from `tile` on: patches of 6 (size = 6), or outputs' deltas of 4 (size = 4).

    x is the first pixel (of the first of `depth` channels) of images of (h, w) pixels at strides xn, xr, cp; a tile's
    first pixel lies `shift` before its place; outside the image all is 0. V has planes of `plane` scalars.
    """
    width = VECTOR_BYTES // ws.itemsize
    zero = splat(ws.dtype.type(0.0))
    step = PATCH * depth
    for t in range(count):
        at = tile + t
        n, at = at // (tall * wide), at % (tall * wide)
        top, left = at // wide * TILE - shift, at % wide * TILE - shift
        for i in range(size):
            to = temporary + i * step
            if top + i < 0 or top + i >= h:
                for c in range(0, step, width):
                    store(ws, to + c, zero)
                continue
            line = x + n * xn + (top + i) * xr + left * cp
            # offset 0 of a workspace: as many zeros as there are channels
            p0 = line if 0 <= left < w else 0
            p1 = line + cp if 0 <= left + 1 < w else 0
            p2 = line + 2 * cp if 0 <= left + 2 < w else 0
            p3 = line + 3 * cp if 0 <= left + 3 < w else 0
            if size == PATCH:
                p4 = line + 4 * cp if 0 <= left + 4 < w else 0
                p5 = line + 5 * cp if 0 <= left + 5 < w else 0
                for c in range(0, depth, width):
                    _from_patch(
                        ws, to + c, depth, load(ws, p0 + c), load(ws, p1 + c), load(ws, p2 + c), load(ws, p3 + c),
                        load(ws, p4 + c), load(ws, p5 + c),
                    )  # fmt: skip
            else:
                for c in range(0, depth, width):
                    _from_tile(
                        ws, to + c, depth, load(ws, p0 + c), load(ws, p1 + c), load(ws, p2 + c), load(ws, p3 + c)
                    )
        for k in range(PATCH):
            to = v + k * plane + t * depth
            for c in range(0, depth, width):
                p = temporary + k * depth + c
                if size == PATCH:
                    _from_patch(
                        ws, to + c, PATCH * plane, load(ws, p), load(ws, p + step), load(ws, p + 2 * step),
                        load(ws, p + 3 * step), load(ws, p + 4 * step), load(ws, p + 5 * step),
                    )  # fmt: skip
                else:
                    _from_tile(
                        ws, to + c, PATCH * plane, load(ws, p), load(ws, p + step), load(ws, p + 2 * step),
                        load(ws, p + 3 * step),
                    )  # fmt: skip


@kernel
def to_image(ws, tile, count, m, plane, o, temporary, y, yn, yr, h, w, tall, wide, bias, relu):
    """Outputs of `count` tiles from `tile` on, of M[f, t, o], plus a bias and then the positive part if relu."""
    width = VECTOR_BYTES // ws.itemsize
    zero = splat(ws.dtype.type(0.0))
    step = PATCH * o
    for t in range(count):
        at = tile + t
        n, at = at // (tall * wide), at % (tall * wide)
        top, left = at // wide * TILE, at % wide * TILE
        for k in range(PATCH):
            source, to = m + k * plane + t * o, temporary + k * o
            for c in range(0, o, width):
                y0, y1, y2, y3 = _to_tile(ws, source + c, PATCH * plane)
                store(ws, to + c, y0)
                store(ws, to + step + c, y1)
                store(ws, to + 2 * step + c, y2)
                store(ws, to + 3 * step + c, y3)
        pixels = min(TILE, w - left)
        for i in range(min(TILE, h - top)):
            line = y + n * yn + (top + i) * yr + left * o
            for c in range(0, o, width):
                y0, y1, y2, y3 = _to_tile(ws, temporary + i * step + c, o)
                more = load(ws, bias + c)
                y0, y1, y2, y3 = y0 + more, y1 + more, y2 + more, y3 + more
                if relu:
                    y0, y1, y2, y3 = maximum(y0, zero), maximum(y1, zero), maximum(y2, zero), maximum(y3, zero)
                store(ws, line + c, y0)
                if pixels > 1:
                    store(ws, line + o + c, y1)
                if pixels > 2:
                    store(ws, line + 2 * o + c, y2)
                if pixels > 3:
                    store(ws, line + 3 * o + c, y3)


@kernel
def from_weight(ws, w, u, size, first, last, temporary):
    """U[f, (c o)] of W[ky, kx, (c o)], for scalars first .. last of `size`, in whole vectors."""
    width = VECTOR_BYTES // ws.itemsize
    for q in range(first, last, width):
        for i in range(TAPS):
            at = w + TAPS * i * size + q
            taps = load(ws, at), load(ws, at + size), load(ws, at + 2 * size)
            _from_taps(ws, temporary + i * width, TAPS * width, taps[0], taps[1], taps[2])
        for k in range(PATCH):
            at = temporary + TAPS * k * width
            taps = load(ws, at), load(ws, at + width), load(ws, at + 2 * width)
            _from_taps(ws, u + k * size + q, PATCH * size, taps[0], taps[1], taps[2])


@kernel
def to_weight(ws, u, count, w, size, first, last, temporary, add, sign):
    """W[ky, kx, (c o)] = G^T U G, or += sign * (...), for U[f, (c o)] the sum of `count` one after another."""
    width = VECTOR_BYTES // ws.itemsize
    signs = splat(sign)
    for q in range(first, last, width):
        for f in range(FREQUENCIES):
            whole = load(ws, u + f * size + q)
            for i in range(1, count):
                whole = whole + load(ws, u + (i * FREQUENCIES + f) * size + q)
            store(ws, temporary + f * width, whole)
        for k in range(PATCH):
            at = temporary + k * width
            u0, u1, u2 = _to_taps(ws, at, PATCH * width)
            store(ws, at, u0)
            store(ws, at + PATCH * width, u1)
            store(ws, at + 2 * PATCH * width, u2)
        for i in range(TAPS):
            w0, w1, w2 = _to_taps(ws, temporary + i * PATCH * width, width)
            at = w + TAPS * i * size + q
            if add:
                w0 = load(ws, at) + signs * w0
                w1 = load(ws, at + size) + signs * w1
                w2 = load(ws, at + 2 * size) + signs * w2
            store(ws, at, w0)
            store(ws, at + size, w1)
            store(ws, at + 2 * size, w2)
