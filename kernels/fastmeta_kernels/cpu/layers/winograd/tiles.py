"""Winograd's F(4 x 4, 3 x 3): images to and from tiles."""

from __future__ import annotations

from fastmeta_kernels.cpu.layers.winograd.points import from_delta, from_patch, from_taps, to_pixels, to_taps, to_tile
from fastmeta_kernels.cpu.layout.winograd import PATCH, TILE
from fastmeta_kernels.cpu.machine.jit import kernel
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES


@kernel
def from_image(ws, tile, count, x, xn, xr, cp, h, w, shift, tall, wide, size, temporary, v, depth, plane, line):
    """V[i, j, t, c] of `count` tiles from `tile` on: patches of 6 (size = 6), or outputs' deltas of 4 (size = 4).

    x is the first pixel (of the first of `depth` channels) of images of (h, w) pixels at strides xn, xr, cp; a tile's
    first pixel lies `shift` before its place; outside the image all is 0. V[i, j] lies i `line` and j `plane` behind V.
    """
    width, step = VECTOR_BYTES // ws.itemsize, PATCH * depth
    for t in range(count):
        n, at = (tile + t) // (tall * wide), (tile + t) % (tall * wide)
        top, left = at // wide * TILE - shift, at % wide * TILE - shift
        first, last = max(0, -left), min(size, w - left)
        corner = x + n * xn + top * xr + left * cp
        low, high = max(0, -top), min(size, h - top)
        for i in range(low, high):
            row, to = corner + i * xr, temporary + i * step
            for c in range(0, depth, width):
                if size == PATCH:
                    from_patch(ws, row + c, cp, first, last, to + c, depth)
                else:
                    from_delta(ws, row + c, cp, first, last, to + c, depth)
        for k in range(PATCH):
            column, to = temporary + k * depth, v + k * plane + t * depth
            for c in range(0, depth, width):
                if size == PATCH:
                    from_patch(ws, column + c, step, low, high, to + c, line)
                else:
                    from_delta(ws, column + c, step, low, high, to + c, line)


@kernel
def to_image(ws, tile, count, m, plane, line, o, temporary, y, yn, yr, h, w, tall, wide, bias, relu):
    """Outputs of `count` tiles from `tile` on, of M[i, j, t, o], plus a bias and then the positive part if relu."""
    width, step = VECTOR_BYTES // ws.itemsize, PATCH * o
    for t in range(count):
        n, at = (tile + t) // (tall * wide), (tile + t) % (tall * wide)
        top, left = at // wide * TILE, at % wide * TILE
        for k in range(PATCH):
            source, to = m + k * plane + t * o, temporary + k * o
            for c in range(0, o, width):
                to_tile(ws, source + c, line, to + c, step)
        for i in range(min(TILE, h - top)):
            source, to = temporary + i * step, y + n * yn + (top + i) * yr + left * o
            for c in range(0, o, width):
                to_pixels(ws, source + c, o, bias + c, relu, w - left, to + c, o)


@kernel
def values(ws, it, outputs, size, shift, tall, wide, first, count, x, depth, temporary, v, plane, line):
    """Values of `count` tiles from `first` on, of images of inputs or of outputs."""
    xn, xr = (it.y_n, it.y_r) if outputs else (it.x_n, it.x_r)
    c, h = (it.ocp, it.oh) if outputs else (it.cp, it.h)
    w = it.ow if outputs else it.w
    from_image(ws, first, count, x, xn, xr, c, h, w, shift, tall, wide, size, temporary, v, depth, plane, line)


@kernel
def outputs(ws, it, back, tall, wide, first, count, m, plane, line, o, temporary, y, bias, relu):
    """Images of outputs, or back, of inputs, of the products of `count` tiles."""
    yn, yr = (it.x_n, it.x_r) if back else (it.y_n, it.y_r)
    h, w = (it.h, it.w) if back else (it.oh, it.ow)
    to_image(ws, first, count, m, plane, line, o, temporary, y, yn, yr, h, w, tall, wide, bias, relu)


@kernel
def weights(ws, source, step, target, target_step):
    """Weights of a side of its taps."""
    from_taps(ws, source, step, target, target_step)


@kernel
def taps(ws, source, step):
    """The adjoint of `weights`, in place."""
    to_taps(ws, source, step, source, step)
