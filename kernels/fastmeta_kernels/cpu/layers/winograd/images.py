"""Whole images of a convolution of stride 2 to values of their phases, and back: along rows, then along columns."""

from __future__ import annotations

from fastmeta_kernels.cpu.layers.winograd import phases
from fastmeta_kernels.cpu.layout.winograd import VALUES, WHOLE_SIDES
from fastmeta_kernels.cpu.machine.jit import kernel
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES

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
    wide = VALUES[1 if w == SMALL else 2]
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
    wide = VALUES[1 if w == SMALL else 2]
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
def values(ws, it, outputs, size, shift, tall, wide, first, count, x, depth, temporary, v, plane, line):
    """Values of `count` images of inputs, or of outputs, from `first` on; `size` to `wide` are those of tiles."""
    xn, xr = (it.y_n, it.y_r) if outputs else (it.x_n, it.x_r)
    c = it.ocp if outputs else it.cp
    from_images(ws, first, count, x, xn, xr, c, it.h, it.w, outputs, temporary, v, depth, plane, line)


@kernel
def outputs(ws, it, back, tall, wide, first, count, m, plane, line, o, temporary, y, bias, relu):
    """Images of outputs, or back, of inputs, of the products of `count` images."""
    yn, yr = (it.x_n, it.x_r) if back else (it.y_n, it.y_r)
    to_images(ws, first, count, m, plane, line, o, temporary, y, yn, yr, it.h, it.w, back, bias, relu)


@kernel
def weights(ws, source, step, target, target_step):
    """Weights of a side of its taps."""
    phases.from_taps(ws, source, step, target, target_step)


@kernel
def taps(ws, source, step):
    """The adjoint of `weights`, in place."""
    phases.to_taps(ws, source, step, source, step)
