"""Batch norm in a workspace: y = scale * xh + shift, xh = (x - mean) r, r = 1 / sqrt(var + eps), M = samples * pixels.

The values take up to four vectors of channels at a time, so that large images come from memory in one stream.
A row's statistics in a set are four vectors of CP: mean, r, dscale, dshift; in the tangent set mean_dot,
mean(xh x_dot), dscale_dot, dshift_dot. A ReLU that the row took over passes dy where the value, computed again
from x, is positive. Derivations: kernels/mathematics.md.

Longer than 200 lines because its instructions share the statistics and the widths of their vectors.
"""

from __future__ import annotations

import numpy as np

from fastmeta_kernels.cpu.layout.instruction import (
    BIAS,
    NORM_BACKWARD,
    NORM_FORWARD,
    NORM_GRADIENT,
    one,
    place,
    vectors,
)
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

RECTIFIED, INNER, POOLED = 1, 2, 4  # flags: a ReLU behind it; dx or x_dot asked for; pooled by an instruction more


@inlined
def _statistics(ws, it, n, j, zero, x, stats):
    """Mean and r of channels j ..: image by image, merged as in Chan, Golub & LeVeque 1983, equation 1.5.

    An image is read twice, from cache; the running mean as its anchor makes a constant channel its own mean to the bit.
    """
    cp = it.cp
    h, w = it.h, it.w
    mean, variance = load_like(ws, x + j, zero), zero
    for i in range(n):
        shift, squares = zero, zero
        for r in range(h):
            part, at = zero, x + i * it.x_n + r * it.x_r + j
            for q in range(at, at + w * cp, cp):
                part = part + (load_like(ws, q, zero) - mean)
            shift = shift + part
        shift = shift * all_of(zero, 1.0 / (h * w))
        own = mean + shift
        for r in range(h):
            part, at = zero, x + i * it.x_n + r * it.x_r + j
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
def _forward(ws, it, n, j, zero, x, scale, shift, y, stats, flags):
    cp = it.cp
    h, w = it.h, it.w
    _statistics(ws, it, n, j, zero, x, stats)
    if flags & POOLED:
        return
    mean, offset = load_like(ws, stats + j, zero), load_like(ws, shift + j, zero)
    low = zero if flags & RECTIFIED else all_of(zero, -np.inf)
    gain = load_like(ws, stats + cp + j, zero) * load_like(ws, scale + j, zero)
    for i in range(n):
        for r in range(h):
            at, to = x + i * it.x_n + r * it.x_r + j, y + i * it.y_n + r * it.y_r + j
            for q in range(0, w * cp, cp):
                store(ws, to + q, maximum(gain * (load_like(ws, at + q, zero) - mean) + offset, low))


@kernel
def _backward(ws, it, n, j, zero, x, dy, scale, shift, dx, stats, flags):
    cp = it.cp
    h, w = it.h, it.w
    mean, rate = load_like(ws, stats + j, zero), load_like(ws, stats + cp + j, zero)
    gain = rate * load_like(ws, scale + j, zero)
    a, b = passes(flags, gain, load_like(ws, shift + j, zero))
    dscale, dshift = zero, zero
    for i in range(n):
        for r in range(h):
            at, to = x + i * it.x_n + r * it.x_r + j, dy + i * it.y_n + r * it.y_r + j
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
            at, to = i * it.x_n + r * it.x_r + j, dy + i * it.y_n + r * it.y_r + j
            for q in range(0, w * cp, cp):
                e = load_like(ws, x + at + q, zero) - mean
                d = where_positive(a * e + b, load_like(ws, to + q, zero))
                store(ws, dx + at + q, gain * (d - level - e * slope))


@kernel
def _by_vectors(ws, it, n, first, last, back, x, dy, scale, shift, out, stats, flags):
    """`_forward` or `_backward` of channels first .. last, four, two or one vector at a time."""
    zero, j = splat(ws.dtype.type(0.0)), first
    two, four = doubled(zero), doubled(doubled(zero))
    while j < last:
        if j + lanes(four) <= last:
            _pass(ws, it, n, j, four, back, x, dy, scale, shift, out, stats, flags)
            j += lanes(four)
        elif j + lanes(two) <= last:
            _pass(ws, it, n, j, two, back, x, dy, scale, shift, out, stats, flags)
            j += lanes(two)
        else:
            _pass(ws, it, n, j, zero, back, x, dy, scale, shift, out, stats, flags)
            j += lanes(zero)


@inlined
def _pass(ws, it, n, j, zero, back, x, dy, scale, shift, out, stats, flags):
    if back:
        _backward(ws, it, n, j, zero, x, dy, scale, shift, out, stats, flags)
    else:
        _forward(ws, it, n, j, zero, x, scale, shift, out, stats, flags)


@inlined
def run(ws, code, l, now, part, parts):
    """One part of NORM_FORWARD: mean and r into stats, and y or its positive part, unless it is pooled on its way;

    or of NORM_BACKWARD: dshift = sum dy, dscale = sum dy xh; dx = scale r (dy - dshift / M - xh dscale / M).
    """
    it = one(NORM_FORWARD, code, l)
    first, last = vectors(ws, it.cp, part, parts)
    x, dy = place(now, it.x), place(now, it.dy)
    out, stats = place(now, it.out), place(now, it.stats)
    scale, shift = place(now, it.scale), place(now, it.shift)
    back = it.op == NORM_BACKWARD
    _by_vectors(ws, it, it.n, first, last, back, x, dy, scale, shift, out, stats, it.flags)


@inlined
def run_gradient(ws, code, l, now):
    """NORM_GRADIENT: gradients of scale and shift from the statistics, or += sign * (...)."""
    it = one(NORM_GRADIENT, code, l)
    stats = place(now, it.stats)
    scale, shift = place(now, it.scale), place(now, it.shift)
    _gradient(ws, it, stats, scale, shift, ws.dtype.type(now.sign))


@inlined
def run_bias_gradient(ws, code, l, now, first, last):
    """BIAS: out = sum over samples and pixels of dy, or out += sign * (...), for channels first .. last."""
    it = one(BIAS, code, l)
    _bias_gradient(ws, it, it.n, first, last, place(now, it.dy), place(now, it.out), ws.dtype.type(now.sign))


@kernel
def _gradient(ws, it, stats, scale, shift, sign):
    cp, add = it.cp, it.add
    for j in range(cp):
        dscale, dshift = ws[stats + 2 * cp + j], ws[stats + 3 * cp + j]
        ws[scale + j] = ws[scale + j] + sign * dscale if add else dscale
        ws[shift + j] = ws[shift + j] + sign * dshift if add else dshift


@kernel
def _bias_gradient(ws, it, n, first, last, dy, out, sign):
    width = VECTOR_BYTES // ws.itemsize
    ocp, add = it.ocp, it.add
    scale = splat(sign)
    rows, pixels = it.oh, it.ow
    if it.y_n == rows * pixels * ocp:  # one run
        pixels *= n * rows
        n, rows = 1, 1
    for j in range(first, last, width):
        s = splat(ws.dtype.type(0.0))
        for i in range(n):
            for y in range(rows):
                row = dy + i * it.y_n + y * it.y_r + j
                for x in range(pixels):
                    s = s + load(ws, row + x * ocp)
        store(ws, out + j, load(ws, out + j) + scale * s if add else s)
