"""Batch norm in a workspace: y = scale * xh + shift, xh = (x - mean) r, r = 1 / sqrt(var + eps), M = samples * pixels.

The values take up to four vectors of channels at a time, so that large images come from memory in one stream.
A row's statistics in a set are four vectors of CP: mean, r, dscale, dshift; in the tangent set mean_dot,
mean(xh x_dot), dscale_dot, dshift_dot. Derivations: kernels/README.md.
"""

from __future__ import annotations

import numpy as np

from fastmeta_kernels.cpu._jit import inlined, kernel
from fastmeta_kernels.cpu.instruction import ARGUMENTS
from fastmeta_kernels.cpu.plan import CP, OCP, OH, OW, X_N, X_R, Y_N, Y_R, H, W
from fastmeta_kernels.cpu.vector import VECTOR_BYTES, all_of, doubled, lanes, load, load_like, maximum, splat, store
from fastmeta_kernels.layer_table import BATCH_NORM_EPSILON


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


@kernel
def _forward(ws, code, l, n, j, zero, x, scale, shift, y, stats, relu):
    cp, h, w = code[l, CP], code[l, H], code[l, W]
    _statistics(ws, code, l, n, j, zero, x, stats)
    mean, offset = load_like(ws, stats + j, zero), load_like(ws, shift + j, zero)
    gain = load_like(ws, stats + cp + j, zero) * load_like(ws, scale + j, zero)
    for i in range(n):
        for r in range(h):
            at, to = x + i * code[l, X_N] + r * code[l, X_R] + j, y + i * code[l, Y_N] + r * code[l, Y_R] + j
            for q in range(0, w * cp, cp):
                value = gain * (load_like(ws, at + q, zero) - mean) + offset
                store(ws, to + q, maximum(value, zero) if relu else value)


@kernel
def _backward(ws, code, l, n, j, zero, x, dy, scale, dx, stats, need_dx):
    cp, h, w = code[l, CP], code[l, H], code[l, W]
    mean, rate = load_like(ws, stats + j, zero), load_like(ws, stats + cp + j, zero)
    dscale, dshift = zero, zero
    for i in range(n):
        for r in range(h):
            at, to = x + i * code[l, X_N] + r * code[l, X_R] + j, dy + i * code[l, Y_N] + r * code[l, Y_R] + j
            part, other = zero, zero
            for q in range(0, w * cp, cp):
                d = load_like(ws, to + q, zero)
                part = part + d * (load_like(ws, at + q, zero) - mean)
                other = other + d
            dscale, dshift = dscale + part, dshift + other
    dscale = dscale * rate
    store(ws, stats + 2 * cp + j, dscale)
    store(ws, stats + 3 * cp + j, dshift)
    if not need_dx:
        return
    share = all_of(zero, 1.0 / (n * h * w))
    gain, slope, level = load_like(ws, scale + j, zero) * rate, dscale * share * rate, dshift * share
    for i in range(n):
        for r in range(h):
            at, to = i * code[l, X_N] + r * code[l, X_R] + j, dy + i * code[l, Y_N] + r * code[l, Y_R] + j
            for q in range(0, w * cp, cp):
                e = load_like(ws, x + at + q, zero) - mean
                store(ws, dx + at + q, gain * (load_like(ws, to + q, zero) - level - e * slope))


@kernel
def _by_vectors(ws, code, l, n, first, last, back, a, b, c, d, stats, flag):
    """`_forward` or `_backward` of channels first .. last, four, two or one vector at a time."""
    zero, j = splat(ws.dtype.type(0.0)), first
    two, four = doubled(zero), doubled(doubled(zero))
    while j < last:
        if j + lanes(four) <= last:
            _pass(ws, code, l, n, j, four, back, a, b, c, d, stats, flag)
            j += lanes(four)
        elif j + lanes(two) <= last:
            _pass(ws, code, l, n, j, two, back, a, b, c, d, stats, flag)
            j += lanes(two)
        else:
            _pass(ws, code, l, n, j, zero, back, a, b, c, d, stats, flag)
            j += lanes(zero)


@inlined
def _pass(ws, code, l, n, j, zero, back, a, b, c, d, stats, flag):
    if back:
        _backward(ws, code, l, n, j, zero, a, b, c, d, stats, flag)
    else:
        _forward(ws, code, l, n, j, zero, a, b, c, d, stats, flag)


@inlined
def forward(ws, code, l, n, first, last, x, scale, shift, y, stats, relu):
    """y, or its positive part where the row took over a ReLU; mean and r into stats."""
    _by_vectors(ws, code, l, n, first, last, False, x, scale, shift, y, stats, relu)


@inlined
def backward(ws, code, l, n, first, last, x, dy, scale, dx, stats, need_dx):
    """dshift = sum dy, dscale = sum dy xh; dx = scale r (dy - dshift / M - xh dscale / M)."""
    _by_vectors(ws, code, l, n, first, last, True, x, dy, scale, dx, stats, need_dx)


@kernel
def _forward_tangent(ws, code, l, n, j, zero, x, x_dot, scale, scale_dot, shift_dot, y_dot, stats, tangents, has_x_dot):
    cp, h, w = code[l, CP], code[l, H], code[l, W]
    mean, rate = load_like(ws, stats + j, zero), load_like(ws, stats + cp + j, zero)
    mean_dot, along = zero, zero
    for i in range(n if has_x_dot else 0):
        for r in range(h):
            at = i * code[l, X_N] + r * code[l, X_R] + j
            part, other = zero, zero
            for q in range(at, at + w * cp, cp):
                d = load_like(ws, x_dot + q, zero)
                part = part + d
                other = other + d * (load_like(ws, x + q, zero) - mean)
            mean_dot, along = mean_dot + part, along + other
    share = all_of(zero, 1.0 / (n * h * w))
    mean_dot, along = mean_dot * share, along * share * rate
    store(ws, tangents + j, mean_dot)
    store(ws, tangents + cp + j, along)
    gain = load_like(ws, scale + j, zero) * rate
    # y_dot = gain (x_dot - mean_dot) + (x - mean) slope + shift_dot
    slope, level = (load_like(ws, scale_dot + j, zero) - gain * along) * rate, load_like(ws, shift_dot + j, zero)
    for i in range(n):
        for r in range(h):
            at, to = i * code[l, X_N] + r * code[l, X_R] + j, y_dot + i * code[l, Y_N] + r * code[l, Y_R] + j
            for q in range(0, w * cp, cp):
                value = (load_like(ws, x + at + q, zero) - mean) * slope + level
                if has_x_dot:
                    value = value + gain * (load_like(ws, x_dot + at + q, zero) - mean_dot)
                store(ws, to + q, value)


@kernel
def _backward_tangent(
    ws, code, l, n, j, zero, x, x_dot, dy, dy_dot, scale, scale_dot, dx_dot, stats, tangents, has_x_dot
):
    cp, h, w = code[l, CP], code[l, H], code[l, W]
    mean, rate = load_like(ws, stats + j, zero), load_like(ws, stats + cp + j, zero)
    mean_dot, along = load_like(ws, tangents + j, zero), load_like(ws, tangents + cp + j, zero)
    dscale_dot, dshift_dot = zero, zero
    for i in range(n):
        for r in range(h):
            at, to = i * code[l, X_N] + r * code[l, X_R] + j, i * code[l, Y_N] + r * code[l, Y_R] + j
            part, other = zero, zero
            for q in range(0, w * cp, cp):
                d_dot = load_like(ws, dy_dot + to + q, zero)
                xh = (load_like(ws, x + at + q, zero) - mean) * rate
                other = other + d_dot
                part = part + d_dot * xh
                if has_x_dot:
                    xh_dot = (load_like(ws, x_dot + at + q, zero) - mean_dot - xh * along) * rate
                    part = part + load_like(ws, dy + to + q, zero) * xh_dot
            dscale_dot, dshift_dot = dscale_dot + part, dshift_dot + other
    store(ws, tangents + 2 * cp + j, dscale_dot)
    store(ws, tangents + 3 * cp + j, dshift_dot)
    if not has_x_dot:
        return
    share = all_of(zero, 1.0 / (n * h * w))
    gain = load_like(ws, scale + j, zero) * rate
    gain_dot = load_like(ws, scale_dot + j, zero) * rate - gain * rate * along
    slope, level = load_like(ws, stats + 2 * cp + j, zero) * share, load_like(ws, stats + 3 * cp + j, zero) * share
    slope_dot, level_dot = dscale_dot * share, dshift_dot * share
    for i in range(n):
        for r in range(h):
            at, to = i * code[l, X_N] + r * code[l, X_R] + j, i * code[l, Y_N] + r * code[l, Y_R] + j
            for q in range(0, w * cp, cp):
                xh = (load_like(ws, x + at + q, zero) - mean) * rate
                xh_dot = (load_like(ws, x_dot + at + q, zero) - mean_dot - xh * along) * rate
                u = load_like(ws, dy + to + q, zero) - level - xh * slope
                u_dot = load_like(ws, dy_dot + to + q, zero) - level_dot - xh_dot * slope - xh * slope_dot
                store(ws, dx_dot + at + q, gain_dot * u + gain * u_dot)


@inlined
def _tangent(ws, code, l, n, j, zero, back, a, b, c, d, e, f, g, stats, tangents, has_x_dot):
    if back:
        _backward_tangent(ws, code, l, n, j, zero, a, b, c, d, e, f, g, stats, tangents, has_x_dot)
    else:
        _forward_tangent(ws, code, l, n, j, zero, a, b, c, d, e, f, stats, tangents, has_x_dot)


@kernel
def _tangent_by_vectors(ws, code, l, n, first, last, back, a, b, c, d, e, f, g, stats, tangents, has_x_dot):
    """Tangents of channels first .. last, two or one vector at a time."""
    zero, j = splat(ws.dtype.type(0.0)), first
    two = doubled(zero)
    while j < last:
        if j + lanes(two) <= last:
            _tangent(ws, code, l, n, j, two, back, a, b, c, d, e, f, g, stats, tangents, has_x_dot)
            j += lanes(two)
        else:
            _tangent(ws, code, l, n, j, zero, back, a, b, c, d, e, f, g, stats, tangents, has_x_dot)
            j += lanes(zero)


@inlined
def forward_tangent(
    ws, code, l, n, first, last, x, x_dot, scale, scale_dot, shift_dot, y_dot, stats, tangents, has_x_dot
):
    """xh_dot = r (x_dot - mean_dot - xh mean(xh x_dot)); y_dot = scale_dot xh + scale xh_dot + shift_dot."""
    _tangent_by_vectors(
        ws, code, l, n, first, last, False, x, x_dot, scale, scale_dot, shift_dot, y_dot, 0, stats, tangents, has_x_dot
    )


@inlined
def backward_tangent(
    ws, code, l, n, first, last, x, x_dot, dy, dy_dot, scale, scale_dot, dx_dot, stats, tangents, has_x_dot
):
    """dscale_dot = sum (dy_dot xh + dy xh_dot), dshift_dot = sum dy_dot; with u = dy - dshift / M - xh dscale / M:

    dx_dot = (scale_dot r + scale r_dot) u + scale r (dy_dot - dshift_dot / M - (xh_dot dscale + xh dscale_dot) / M),
    r_dot = -r^2 mean(xh x_dot). Without x_dot nothing asks for dx_dot.
    """
    _tangent_by_vectors(
        ws, code, l, n, first, last, True, x, x_dot, dy, dy_dot, scale, scale_dot, dx_dot, stats, tangents, has_x_dot
    )


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
