"""Batch norm in a workspace: y = scale * xh + shift, xh = (x - mean) r, r = 1 / sqrt(var + eps), M = samples * pixels.

The values take up to four vectors of channels at a time, so that large images come from memory in one stream.
A row's statistics in a set are four vectors of CP: mean, r, dscale, dshift; in the tangent set mean_dot,
mean(xh x_dot), dscale_dot, dshift_dot. A ReLU that the row took over passes dy where the value, computed again
from x, is positive. Derivations: kernels/README.md.
"""

from __future__ import annotations

import numpy as np

from fastmeta_kernels.cpu.layout.instruction import ARGUMENTS, NORM_BACKWARD, OP, place, share
from fastmeta_kernels.cpu.layout.network import CP, OCP, OH, OW, X_N, X_R, Y_N, Y_R, H, N, W
from fastmeta_kernels.cpu.machine.jit import inlined, kernel
from fastmeta_kernels.cpu.machine.selection import where_positive
from fastmeta_kernels.cpu.machine.vector import (
    VECTOR_BYTES,
    all_of,
    doubled,
    lanes,
    load,
    load_like,
    maximum,
    splat,
    store,
)
from fastmeta_kernels.layer_table import BATCH_NORM_EPSILON

# Operands of every NORM instruction, and flags: a ReLU behind it; dx or x_dot asked for; pooled by an instruction more.
X, X_DOT, DY, DY_DOT, SCALE, SHIFT, SCALE_DOT, SHIFT_DOT, OUT, STATS, TANGENTS, FLAGS = range(12)
RECTIFIED, INNER, POOLED = 1, 2, 4


@inlined
def operand(code, l, schedule, r, which):
    """Where an operand of a NORM instruction lies."""
    return place(schedule, r, code[l, ARGUMENTS + which])


@inlined
def vectors(ws, channels, part, parts):
    """First and last of the channels, in whole vectors, that are for one of `parts`."""
    width = VECTOR_BYTES // ws.itemsize
    first, last = share(channels // width, part, parts)
    return first * width, last * width


@inlined
def _statistics(ws, code, l, n, j, zero, x, stats):
    """Mean and r of channels j ..: image by image, merged as in Chan, Golub & LeVeque 1983, equation 1.5.

    An image is read twice, from cache; the running mean as its anchor makes a constant channel its own mean to the bit.
    """
    cp, h, w = code[l, CP], code[l, H], code[l, W]
    mean, variance = load_like(ws, x + j, zero), zero
    for i in range(n):
        shift, squares = zero, zero
        for r in range(h):
            part, at = zero, x + i * code[l, X_N] + r * code[l, X_R] + j
            for q in range(at, at + w * cp, cp):
                part = part + (load_like(ws, q, zero) - mean)
            shift = shift + part
        shift = shift * all_of(zero, 1.0 / (h * w))
        own = mean + shift
        for r in range(h):
            part, at = zero, x + i * code[l, X_N] + r * code[l, X_R] + j
            for q in range(at, at + w * cp, cp):
                e = load_like(ws, q, zero) - own
                part = part + e * e
            squares = squares + part
        mean = mean + shift * all_of(zero, 1.0 / (i + 1))
        variance = variance + squares + shift * shift * all_of(zero, h * w * (i / (i + 1)))
    store(ws, stats + j, mean)
    store(ws, stats + cp + j, variance)
    for q in range(stats + cp + j, stats + cp + j + lanes(zero)):
        one = ws[q] * ws.dtype.type(1.0 / (n * h * w))
        rate = ws.dtype.type(1.0) / np.sqrt(one + ws.dtype.type(BATCH_NORM_EPSILON))
        ws[q] = rate if rate > 0 else ws.dtype.type(np.nan)  # an overflow must not look like a constant


@inlined
def passes(flags, gain, offset):
    """(a, b) such that dy passes where a (x - mean) + b > 0: the value where the row took over a ReLU, else 1."""
    if flags & RECTIFIED:
        return gain, offset
    return all_of(gain, 0.0), all_of(gain, 1.0)


@kernel
def _forward(ws, code, l, n, j, zero, x, scale, shift, y, stats, flags):
    cp, h, w = code[l, CP], code[l, H], code[l, W]
    _statistics(ws, code, l, n, j, zero, x, stats)
    if flags & POOLED:
        return
    mean, offset = load_like(ws, stats + j, zero), load_like(ws, shift + j, zero)
    low = zero if flags & RECTIFIED else all_of(zero, -np.inf)
    gain = load_like(ws, stats + cp + j, zero) * load_like(ws, scale + j, zero)
    for i in range(n):
        for r in range(h):
            at, to = x + i * code[l, X_N] + r * code[l, X_R] + j, y + i * code[l, Y_N] + r * code[l, Y_R] + j
            for q in range(0, w * cp, cp):
                store(ws, to + q, maximum(gain * (load_like(ws, at + q, zero) - mean) + offset, low))


@kernel
def _backward(ws, code, l, n, j, zero, x, dy, scale, shift, dx, stats, flags):
    cp, h, w = code[l, CP], code[l, H], code[l, W]
    mean, rate = load_like(ws, stats + j, zero), load_like(ws, stats + cp + j, zero)
    gain = rate * load_like(ws, scale + j, zero)
    a, b = passes(flags, gain, load_like(ws, shift + j, zero))
    dscale, dshift = zero, zero
    for i in range(n):
        for r in range(h):
            at, to = x + i * code[l, X_N] + r * code[l, X_R] + j, dy + i * code[l, Y_N] + r * code[l, Y_R] + j
            part, other = zero, zero
            for q in range(0, w * cp, cp):
                e = load_like(ws, at + q, zero) - mean
                d = where_positive(a * e + b, load_like(ws, to + q, zero))
                part = part + d * e
                other = other + d
            dscale, dshift = dscale + part, dshift + other
    dscale = dscale * rate
    store(ws, stats + 2 * cp + j, dscale)
    store(ws, stats + 3 * cp + j, dshift)
    if not flags & INNER:
        return
    share = all_of(zero, 1.0 / (n * h * w))
    slope, level = dscale * share * rate, dshift * share
    for i in range(n):
        for r in range(h):
            at, to = i * code[l, X_N] + r * code[l, X_R] + j, dy + i * code[l, Y_N] + r * code[l, Y_R] + j
            for q in range(0, w * cp, cp):
                e = load_like(ws, x + at + q, zero) - mean
                d = where_positive(a * e + b, load_like(ws, to + q, zero))
                store(ws, dx + at + q, gain * (d - level - e * slope))


@kernel
def _by_vectors(ws, code, l, n, first, last, back, x, dy, scale, shift, out, stats, flags):
    """`_forward` or `_backward` of channels first .. last, four, two or one vector at a time."""
    zero, j = splat(ws.dtype.type(0.0)), first
    two, four = doubled(zero), doubled(doubled(zero))
    while j < last:
        if j + lanes(four) <= last:
            _pass(ws, code, l, n, j, four, back, x, dy, scale, shift, out, stats, flags)
            j += lanes(four)
        elif j + lanes(two) <= last:
            _pass(ws, code, l, n, j, two, back, x, dy, scale, shift, out, stats, flags)
            j += lanes(two)
        else:
            _pass(ws, code, l, n, j, zero, back, x, dy, scale, shift, out, stats, flags)
            j += lanes(zero)


@inlined
def _pass(ws, code, l, n, j, zero, back, x, dy, scale, shift, out, stats, flags):
    if back:
        _backward(ws, code, l, n, j, zero, x, dy, scale, shift, out, stats, flags)
    else:
        _forward(ws, code, l, n, j, zero, x, scale, shift, out, stats, flags)


@inlined
def run(ws, code, l, schedule, r, part, parts):
    """One part of NORM_FORWARD: mean and r into stats, and y or its positive part, unless it is pooled on its way;

    or of NORM_BACKWARD: dshift = sum dy, dscale = sum dy xh; dx = scale r (dy - dshift / M - xh dscale / M).
    """
    first, last = vectors(ws, code[l, CP], part, parts)
    x, dy = operand(code, l, schedule, r, X), operand(code, l, schedule, r, DY)
    scale, shift = operand(code, l, schedule, r, SCALE), operand(code, l, schedule, r, SHIFT)
    out, stats = operand(code, l, schedule, r, OUT), operand(code, l, schedule, r, STATS)
    back, flags = code[l, OP] == NORM_BACKWARD, code[l, ARGUMENTS + FLAGS]
    _by_vectors(ws, code, l, code[l, N], first, last, back, x, dy, scale, shift, out, stats, flags)


@kernel
def gradient(ws, code, l, stats, scale, shift, sign):
    """Gradients of scale and shift from the statistics, or += sign * (...)."""
    cp, add = code[l, CP], code[l, ARGUMENTS + 3]
    for j in range(cp):
        dscale, dshift = ws[stats + 2 * cp + j], ws[stats + 3 * cp + j]
        ws[scale + j] = ws[scale + j] + sign * dscale if add else dscale
        ws[shift + j] = ws[shift + j] + sign * dshift if add else dshift


@kernel
def bias_gradient(ws, code, l, n, first, last, dy, out, sign):
    """out = sum over samples and pixels of dy, or out += sign * (...), for channels first .. last."""
    width = VECTOR_BYTES // ws.itemsize
    ocp, add, scale = code[l, OCP], code[l, ARGUMENTS + 2], splat(sign)
    rows, pixels = code[l, OH], code[l, OW]
    if code[l, Y_N] == rows * pixels * ocp:  # one run
        n, rows, pixels = 1, 1, n * rows * pixels
    for j in range(first, last, width):
        s = splat(ws.dtype.type(0.0))
        for i in range(n):
            for y in range(rows):
                row = dy + i * code[l, Y_N] + y * code[l, Y_R] + j
                for x in range(pixels):
                    s = s + load(ws, row + x * ocp)
        store(ws, out + j, load(ws, out + j) + scale * s if add else s)
