"""Tangents of batch norm, forward and backward; operands as in `batch_norm`, derivations in kernels/mathematics.md."""

from __future__ import annotations

from fastmeta_kernels.cpu.layers.batch_norm.values import INNER, POOLED, passes
from fastmeta_kernels.cpu.layout.instruction import NORM_BACKWARD_TANGENT, one, place, vectors
from fastmeta_kernels.cpu.machine.jit import inlined, kernel
from fastmeta_kernels.cpu.machine.selection import where_positive
from fastmeta_kernels.cpu.machine.vector import all_of, doubled, lanes, load_like, splat, store


@kernel
def _forward(ws, it, n, j, zero, x, x_dot, scale, shift, scale_dot, shift_dot, y_dot, stats, tangents, flags):
    cp = it.cp
    h, w = it.h, it.w
    mean, rate = load_like(ws, stats + j, zero), load_like(ws, stats + cp + j, zero)
    mean_dot, along = zero, zero
    inner = flags & INNER != 0
    for i in range(n if inner else 0):
        for r in range(h):
            at = i * it.x_n + r * it.x_r + j
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
    if flags & POOLED:
        return
    gain = rate * load_like(ws, scale + j, zero)
    a, b = passes(flags, gain, load_like(ws, shift + j, zero))
    # y_dot = gain (x_dot - mean_dot) + (x - mean) slope + shift_dot
    slope, level = (load_like(ws, scale_dot + j, zero) - gain * along) * rate, load_like(ws, shift_dot + j, zero)
    for i in range(n):
        for r in range(h):
            at, to = i * it.x_n + r * it.x_r + j, y_dot + i * it.y_n + r * it.y_r + j
            for q in range(0, w * cp, cp):
                e = load_like(ws, x + at + q, zero) - mean
                value = e * slope + level
                if inner:
                    value = value + gain * (load_like(ws, x_dot + at + q, zero) - mean_dot)
                store(ws, to + q, where_positive(a * e + b, value))


@kernel
def _backward(ws, it, n, j, zero, x, x_dot, dy, dy_dot, scale, shift, scale_dot, dx_dot, stats, tangents, flags):
    cp = it.cp
    h, w = it.h, it.w
    mean, rate = load_like(ws, stats + j, zero), load_like(ws, stats + cp + j, zero)
    mean_dot, along = load_like(ws, tangents + j, zero), load_like(ws, tangents + cp + j, zero)
    gain = rate * load_like(ws, scale + j, zero)
    a, b = passes(flags, gain, load_like(ws, shift + j, zero))
    dscale_dot, dshift_dot = zero, zero
    inner = flags & INNER != 0
    for i in range(n):
        for r in range(h):
            at, to = i * it.x_n + r * it.x_r + j, i * it.y_n + r * it.y_r + j
            part, other = zero, zero
            for q in range(0, w * cp, cp):
                e = load_like(ws, x + at + q, zero) - mean
                value, xh = a * e + b, e * rate
                d_dot = where_positive(value, load_like(ws, dy_dot + to + q, zero))
                other = other + d_dot
                part = part + d_dot * xh
                if inner:
                    xh_dot = (load_like(ws, x_dot + at + q, zero) - mean_dot - xh * along) * rate
                    part = part + where_positive(value, load_like(ws, dy + to + q, zero)) * xh_dot
            dscale_dot, dshift_dot = dscale_dot + part, dshift_dot + other
    store(ws, tangents + 2 * cp + j, dscale_dot)
    store(ws, tangents + 3 * cp + j, dshift_dot)
    if not inner:
        return
    share = all_of(zero, 1.0 / (n * h * w))
    gain_dot = load_like(ws, scale_dot + j, zero) * rate - gain * rate * along
    slope, level = load_like(ws, stats + 2 * cp + j, zero) * share, load_like(ws, stats + 3 * cp + j, zero) * share
    slope_dot, level_dot = dscale_dot * share, dshift_dot * share
    for i in range(n):
        for r in range(h):
            at, to = i * it.x_n + r * it.x_r + j, i * it.y_n + r * it.y_r + j
            for q in range(0, w * cp, cp):
                e = load_like(ws, x + at + q, zero) - mean
                value, xh = a * e + b, e * rate
                xh_dot = (load_like(ws, x_dot + at + q, zero) - mean_dot - xh * along) * rate
                d = where_positive(value, load_like(ws, dy + to + q, zero))
                d_dot = where_positive(value, load_like(ws, dy_dot + to + q, zero))
                u = d - level - xh * slope
                u_dot = d_dot - level_dot - xh_dot * slope - xh * slope_dot
                store(ws, dx_dot + at + q, gain_dot * u + gain * u_dot)


@inlined
def _pass(
    ws, it, n, j, zero, back, x, x_dot, dy, dy_dot, scale, shift, scale_dot, shift_dot, out, stats, tangents, flags
):
    if back:
        _backward(ws, it, n, j, zero, x, x_dot, dy, dy_dot, scale, shift, scale_dot, out, stats, tangents, flags)
    else:
        _forward(ws, it, n, j, zero, x, x_dot, scale, shift, scale_dot, shift_dot, out, stats, tangents, flags)


@kernel
def _by_vectors(
    ws, it, n, first, last, back, x, x_dot, dy, dy_dot, scale, shift, scale_dot, shift_dot, out, stats, tangents,
    flags,
):  # fmt: skip
    """Channels first .. last, two or one vector at a time."""
    zero, j = splat(ws.dtype.type(0.0)), first
    two = doubled(zero)
    while j < last:
        if j + lanes(two) <= last:
            _pass(
                ws, it, n, j, two, back, x, x_dot, dy, dy_dot, scale, shift, scale_dot, shift_dot, out, stats,
                tangents, flags,
            )  # fmt: skip
            j += lanes(two)
        else:
            _pass(
                ws, it, n, j, zero, back, x, x_dot, dy, dy_dot, scale, shift, scale_dot, shift_dot, out, stats,
                tangents, flags,
            )  # fmt: skip
            j += lanes(zero)


@inlined
def run(ws, code, l, now, part, parts):
    """One part of NORM_FORWARD_TANGENT: mean_dot and mean(xh x_dot) into tangents, and unless it is pooled on its way

        xh_dot = r (x_dot - mean_dot - xh mean(xh x_dot)); y_dot = scale_dot xh + scale xh_dot + shift_dot;

    or of NORM_BACKWARD_TANGENT: dscale_dot = sum (dy_dot xh + dy xh_dot), dshift_dot = sum dy_dot; with
    u = dy - dshift / M - xh dscale / M and r_dot = -r^2 mean(xh x_dot)

    dx_dot = (scale_dot r + scale r_dot) u + scale r (dy_dot - dshift_dot / M - (xh_dot dscale + xh dscale_dot) / M).

    Without x_dot nothing asks for dx_dot.
    """
    it = one(NORM_BACKWARD_TANGENT, code, l)
    first, last = vectors(ws, it.cp, part, parts)
    x, x_dot = place(now, it.x), place(now, it.x_dot)
    dy, dy_dot = place(now, it.dy), place(now, it.dy_dot)
    scale, shift = place(now, it.scale), place(now, it.shift)
    scale_dot, shift_dot = place(now, it.scale_dot), place(now, it.shift_dot)
    out = place(now, it.out)
    stats, tangents = place(now, it.stats), place(now, it.tangents)
    back = it.op == NORM_BACKWARD_TANGENT
    _by_vectors(
        ws, it, it.n, first, last, back, x, x_dot, dy, dy_dot, scale, shift, scale_dot, shift_dot, out,
        stats, tangents, it.flags,
    )  # fmt: skip
