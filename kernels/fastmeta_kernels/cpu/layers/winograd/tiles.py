"""Winograd's F(4 x 4, 3 x 3): images to and from tiles, weights to and from frequencies."""

from __future__ import annotations

from fastmeta_kernels.cpu.layers.winograd.points import from_delta, from_patch, from_taps, to_pixels, to_taps, to_tile
from fastmeta_kernels.cpu.layout.winograd import FREQUENCIES, PATCH, TAPS, TILE
from fastmeta_kernels.cpu.machine.jit import kernel
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES, load, splat, store


@kernel
def from_image(ws, tile, count, x, xn, xr, cp, h, w, shift, tall, wide, size, temporary, v, depth, plane):
    """V[f, t, c] of `count` tiles from `tile` on: patches of 6 (size = 6), or outputs' deltas of 4 (size = 4).

    x is the first pixel (of the first of `depth` channels) of images of (h, w) pixels at strides xn, xr, cp; a tile's
    first pixel lies `shift` before its place; outside the image all is 0. V has planes of `plane` scalars.
    """
    width, step = VECTOR_BYTES // ws.itemsize, PATCH * depth
    for t in range(count):
        n, at = (tile + t) // (tall * wide), (tile + t) % (tall * wide)
        top, left = at // wide * TILE - shift, at % wide * TILE - shift
        first, last = max(0, -left), min(size, w - left)
        corner = x + n * xn + top * xr + left * cp
        low, high = max(0, -top), min(size, h - top)
        for i in range(low, high):
            line, to = corner + i * xr, temporary + i * step
            for c in range(0, depth, width):
                if size == PATCH:
                    from_patch(ws, line + c, cp, first, last, to + c, depth)
                else:
                    from_delta(ws, line + c, cp, first, last, to + c, depth)
        for k in range(PATCH):
            line, to = temporary + k * depth, v + k * plane + t * depth
            for c in range(0, depth, width):
                if size == PATCH:
                    from_patch(ws, line + c, step, low, high, to + c, PATCH * plane)
                else:
                    from_delta(ws, line + c, step, low, high, to + c, PATCH * plane)


@kernel
def to_image(ws, tile, count, m, plane, o, temporary, y, yn, yr, h, w, tall, wide, bias, relu):
    """Outputs of `count` tiles from `tile` on, of M[f, t, o], plus a bias and then the positive part if relu."""
    width, step = VECTOR_BYTES // ws.itemsize, PATCH * o
    for t in range(count):
        n, at = (tile + t) // (tall * wide), (tile + t) % (tall * wide)
        top, left = at // wide * TILE, at % wide * TILE
        for k in range(PATCH):
            source, to = m + k * plane + t * o, temporary + k * o
            for c in range(0, o, width):
                to_tile(ws, source + c, PATCH * plane, to + c, step)
        for i in range(min(TILE, h - top)):
            source, line = temporary + i * step, y + n * yn + (top + i) * yr + left * o
            for c in range(0, o, width):
                to_pixels(ws, source + c, o, bias + c, relu, w - left, line + c, o)


@kernel
def from_weight(ws, w, u, size, first, last, temporary):
    """U[f, (c o)] of W[ky, kx, (c o)], for scalars first .. last of `size`, in whole vectors."""
    width = VECTOR_BYTES // ws.itemsize
    for q in range(first, last, width):
        for i in range(TAPS):
            from_taps(ws, w + TAPS * i * size + q, size, temporary + i * width, TAPS * width)
        for k in range(PATCH):
            from_taps(ws, temporary + TAPS * k * width, width, u + k * size + q, PATCH * size)


@kernel
def to_weight(ws, u, count, w, size, first, last, temporary, add, sign):
    """W[ky, kx, (c o)] = G^T U G, or += sign * (...), for U[f, (c o)] the sum of `count` one after another."""
    width, signs = VECTOR_BYTES // ws.itemsize, splat(sign)
    for q in range(first, last, width):
        for f in range(FREQUENCIES):
            whole = load(ws, u + f * size + q)
            for i in range(1, count):
                whole = whole + load(ws, u + (i * FREQUENCIES + f) * size + q)
            store(ws, temporary + f * width, whole)
        for k in range(PATCH):
            to_taps(ws, temporary + k * width, PATCH * width, temporary + k * width, PATCH * width)
        for i in range(TAPS):
            line = temporary + i * PATCH * width
            to_taps(ws, line, width, line, width)
            for j in range(TAPS):
                at = w + (TAPS * i + j) * size + q
                value = load(ws, line + j * width)
                store(ws, at, load(ws, at) + signs * value if add else value)
