"""Whole images of a convolution of stride 2 to values of their phases, and back; and its weights."""

from __future__ import annotations

from fastmeta_kernels.cpu.layers.winograd import phases
from fastmeta_kernels.cpu.layout.winograd import PHASE_WEIGHTS, TAPS, VALUES, WHOLE_SIDES
from fastmeta_kernels.cpu.machine.jit import kernel
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES, load, splat, store

SMALL, LARGE = WHOLE_SIDES


@kernel
def _spread(ws, side, outputs, source, step, target, target_step):
    """Values of a side of inputs; or, with the adjoint of `gather`, of outputs."""
    if outputs:
        if side == SMALL:
            phases.deal_small(ws, source, step, target, target_step)
        else:
            phases.deal_large(ws, source, step, target, target_step)
    elif side == SMALL:
        phases.spread_small(ws, source, step, target, target_step)
    else:
        phases.spread_large(ws, source, step, target, target_step)


@kernel
def _gather(ws, side, inputs, source, step, target, target_step):
    """A side of outputs of its products; or, with the adjoint of `spread`, of inputs."""
    if inputs:
        if side == SMALL:
            phases.collect_small(ws, source, step, target, target_step)
        else:
            phases.collect_large(ws, source, step, target, target_step)
    elif side == SMALL:
        phases.gather_small(ws, source, step, target, target_step)
    else:
        phases.gather_large(ws, source, step, target, target_step)


@kernel
def from_images(ws, first, count, x, xn, xr, cp, h, w, outputs, temporary, v, depth, plane, line):
    """V[i, j, n, c] of `count` images from `first` on: of inputs of (h, w) pixels, or of the deltas of outputs.

    x is the first pixel (of the first of `depth` channels) of images at strides xn, xr, cp. Values i of columns lie
    `line` apart, those j of rows `plane`, images `depth`.
    """
    width, high = VECTOR_BYTES // ws.itemsize, (h + 1) // 2 if outputs else h
    wide = VALUES[0 if w == SMALL else 1]
    for n in range(count):
        image, to = x + (first + n) * xn, v + n * depth
        for c in range(0, depth, width):
            for i in range(high):
                _spread(ws, w, outputs, image + i * xr + c, cp, temporary + i * wide * width, width)
            for j in range(wide):
                _spread(ws, h, outputs, temporary + j * width, wide * width, to + j * plane + c, line)


@kernel
def to_images(ws, first, count, m, plane, line, o, temporary, y, yn, yr, h, w, inputs, bias, relu):
    """Outputs of `count` images from `first` on, of M[i, j, n, o], plus a bias and then the positive part if relu.

    Or the deltas of inputs of (h, w) pixels.
    """
    width, high = VECTOR_BYTES // ws.itemsize, h if inputs else (h + 1) // 2
    wide = VALUES[0 if w == SMALL else 1]
    for n in range(count):
        source, image = m + n * o, y + (first + n) * yn
        for c in range(0, o, width):
            for j in range(wide):
                _gather(ws, h, inputs, source + j * plane + c, line, temporary + j * width, wide * width)
            for i in range(high):
                row, to = temporary + i * wide * width, image + i * yr + c
                if inputs:
                    _gather(ws, w, True, row, width, to, o)
                elif w == SMALL:
                    phases.finish_small(ws, row, width, bias + c, relu, (SMALL + 1) // 2, to, o)
                else:
                    phases.finish_large(ws, row, width, bias + c, relu, (LARGE + 1) // 2, to, o)


@kernel
def values(ws, it, outputs, first, count, x, depth, temporary, v, plane, line):
    """Values of `count` images of inputs, or of outputs, from `first` on."""
    xn, xr = (it.y_n, it.y_r) if outputs else (it.x_n, it.x_r)
    c = it.ocp if outputs else it.cp
    from_images(ws, first, count, x, xn, xr, c, it.h, it.w, outputs, temporary, v, depth, plane, line)


@kernel
def outputs(ws, it, back, first, count, m, plane, line, o, temporary, y, bias, relu):
    """Images of outputs, or back, of inputs, of the products of `count` images."""
    yn, yr = (it.x_n, it.x_r) if back else (it.y_n, it.y_r)
    to_images(ws, first, count, m, plane, line, o, temporary, y, yn, yr, it.h, it.w, back, bias, relu)


@kernel
def from_weight(ws, w, u, size, first, last, temporary):
    """U[i, j, (c o)] of W[ky, kx, (c o)], for scalars first .. last of `size`, in whole vectors."""
    width = VECTOR_BYTES // ws.itemsize
    for q in range(first, last, width):
        for i in range(TAPS):
            phases.from_taps(ws, w + TAPS * i * size + q, size, temporary + i * width, TAPS * width)
        for j in range(PHASE_WEIGHTS):
            phases.from_taps(ws, temporary + TAPS * j * width, width, u + j * size + q, PHASE_WEIGHTS * size)


@kernel
def to_weight(ws, u, parts, w, size, first, last, temporary, add, sign):
    """W[ky, kx, (c o)] = G^T U G, or += sign * (...), for U[i, j, (c o)] the sum of `parts` one after another."""
    width, signs = VECTOR_BYTES // ws.itemsize, splat(sign)
    pairs = PHASE_WEIGHTS * PHASE_WEIGHTS
    for q in range(first, last, width):
        for f in range(pairs):
            whole = load(ws, u + f * size + q)
            for i in range(1, parts):
                whole = whole + load(ws, u + (i * pairs + f) * size + q)
            store(ws, temporary + f * width, whole)
        for j in range(PHASE_WEIGHTS):
            column, step = temporary + j * width, PHASE_WEIGHTS * width
            phases.to_taps(ws, column, step, column, step)
        for i in range(TAPS):
            line = temporary + i * PHASE_WEIGHTS * width
            phases.to_taps(ws, line, width, line, width)
            for j in range(TAPS):
                at = w + (TAPS * i + j) * size + q
                value = load(ws, line + j * width)
                store(ws, at, load(ws, at) + signs * value if add else value)
