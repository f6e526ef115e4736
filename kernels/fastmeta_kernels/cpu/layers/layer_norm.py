"""Layer norm in a workspace: y = scale xh + shift, xh = (x - mean) r by the statistics of each sample.

A set keeps mean and r of each sample, the tangent set mean(x_dot) and mean(xh x_dot), N each. Loops walk the channels
that carry data: padding stays zero. Derivations: kernels/mathematics.md.

Longer than 200 lines because all four functions of the layer are here, to second order.
"""

from __future__ import annotations

import numpy as np

from fastmeta_kernels.cpu.layout.instruction import (
    CHANNELS,
    LAYER_NORM,
    LAYER_NORM_BACKWARD,
    LAYER_NORM_BACKWARD_TANGENT,
    LAYER_NORM_GRADIENT,
    LAYER_NORM_TANGENT,
    SAMPLES,
    Code,
    Operand,
    one,
    place,
)
from fastmeta_kernels.cpu.layout.layer import Layer
from fastmeta_kernels.cpu.layout.places import Into, Places
from fastmeta_kernels.cpu.machine.jit import inlined, kernel
from fastmeta_kernels.layer_table import BATCH_NORM_EPSILON

RECTIFIES, MASKS_INPUTS = False, False


def forward(code: Code, layer: Layer, at: Places) -> None:
    """y = scale xh + shift, and the statistics."""
    code.add(LAYER_NORM, SAMPLES, layer, x=at.x, y=at.y, scale=at.weight, shift=at.bias, stats=at.stats)


def forward_tangent(code: Code, layer: Layer, at: Places) -> None:
    """y_dot = scale xh_dot + scale_dot xh + shift_dot, xh_dot = r (x_dot - mean(x_dot) - xh mean(xh x_dot))."""
    scales = {"scale": at.weight, "scale_dot": at.weight_dot, "shift_dot": at.bias_dot}
    values = {"x": at.x, "x_dot": at.x_dot, "y_dot": at.y_dot, "stats": at.stats, "tangents": at.tangents}
    code.add(LAYER_NORM_TANGENT, SAMPLES, layer, **values, **scales, inner=at.inner)


def backward(code: Code, layer: Layer, at: Places, into: Into | None, transpose: bool) -> None:
    """dscale = sum dy xh, dshift = sum dy, and with g = scale dy: dx = r (g - mean(g) - xh mean(xh g))."""
    if into:
        _gradient(code, layer, at, at.dy, into, second=False)
    if at.inner:
        values = {"x": at.x, "dy": at.dy, "dx": at.dx, "scale": at.weight, "stats": at.stats}
        code.add(LAYER_NORM_BACKWARD, SAMPLES, layer, **values)


def backward_tangent(code: Code, layer: Layer, at: Places, into: Into) -> None:
    """The derivative of `backward`, where g, r and xh all move."""
    _gradient(code, layer, at, at.dy_dot, into, second=at.inner)
    if at.inner:
        values = {"x": at.x, "x_dot": at.x_dot, "dy": at.dy, "dy_dot": at.dy_dot, "dx_dot": at.dx_dot}
        scales = {"scale": at.weight, "scale_dot": at.weight_dot, "stats": at.stats, "tangents": at.tangents}
        code.add(LAYER_NORM_BACKWARD_TANGENT, SAMPLES, layer, **values, **scales)


def _gradient(code: Code, layer: Layer, at: Places, d: Operand, into: Into, second: bool) -> None:
    values = {"x": at.x, "x_dot": at.x_dot, "d": d, "dy": at.dy, "stats": at.stats, "tangents": at.tangents}
    results = {"scale": into.weight, "shift": into.bias, "second": second, "add": into.adds}
    code.add(LAYER_NORM_GRADIENT, CHANNELS, layer, **values, **results)


@kernel
def _mean_of_product(ws, it, a, mean_a, b, mean_b, i):
    """The mean over sample i of (a - mean_a) (b - mean_b)."""
    total = ws.dtype.type(0.0)
    for r in range(it.h):
        for q in range(it.w):
            at = i * it.x_n + r * it.x_r + q * it.cp
            for c in range(at, at + it.c):
                total += (ws[a + c] - mean_a) * (ws[b + c] - mean_b)
    return total / ws.dtype.type(it.h * it.w * it.c)


@kernel
def _mean(ws, it, x, i):
    """The mean of sample i, from its first value on: a constant sample is its own mean to the bit."""
    first, total = ws[x + i * it.x_n], ws.dtype.type(0.0)
    for r in range(it.h):
        for p in range(x + i * it.x_n + r * it.x_r, x + i * it.x_n + r * it.x_r + it.w * it.cp, it.cp):
            for c in range(it.c):
                total += ws[p + c] - first
    return first + total / ws.dtype.type(it.h * it.w * it.c)


@inlined
def run_forward(ws, code, l, now, first, last):
    """LAYER_NORM, of samples first .. last."""
    it = one(LAYER_NORM, code, l)
    _forward(ws, it, first, last, place(now, it.x), place(now, it.y), place(now, it.scale), place(now, it.shift),
             place(now, it.stats))  # fmt: skip


@kernel
def _forward(ws, it, first, last, x, y, scale, shift, stats):
    unit = ws.dtype.type(1.0)
    for i in range(first, last):
        mean = _mean(ws, it, x, i)
        square = _mean_of_product(ws, it, x, mean, x, mean, i)
        rate = unit / np.sqrt(square + ws.dtype.type(BATCH_NORM_EPSILON))
        rate = rate if rate > 0 else ws.dtype.type(np.nan)  # an overflow must not look like a constant
        ws[stats + i], ws[stats + it.n + i] = mean, rate
        for r in range(it.h):
            for q in range(it.w):
                at, to = x + i * it.x_n + r * it.x_r + q * it.cp, y + i * it.y_n + r * it.y_r + q * it.ocp
                for c in range(it.c):
                    ws[to + c] = ws[scale + c] * ((ws[at + c] - mean) * rate) + ws[shift + c]


@inlined
def run_backward(ws, code, l, now, first, last):
    """LAYER_NORM_BACKWARD, of samples first .. last."""
    it = one(LAYER_NORM_BACKWARD, code, l)
    _backward(ws, it, first, last, place(now, it.x), place(now, it.dy), place(now, it.dx), place(now, it.scale),
              place(now, it.stats))  # fmt: skip


@kernel
def _backward(ws, it, first, last, x, dy, dx, scale, stats):
    count = ws.dtype.type(it.h * it.w * it.c)
    for i in range(first, last):
        mean, rate = ws[stats + i], ws[stats + it.n + i]
        g_sum, xg_sum = ws.dtype.type(0.0), ws.dtype.type(0.0)
        for r in range(it.h):
            for q in range(it.w):
                at, to = x + i * it.x_n + r * it.x_r + q * it.cp, dy + i * it.y_n + r * it.y_r + q * it.ocp
                for c in range(it.c):
                    g = ws[scale + c] * ws[to + c]
                    g_sum += g
                    xg_sum += g * ((ws[at + c] - mean) * rate)
        level, slope = g_sum / count, xg_sum / count
        for r in range(it.h):
            for q in range(it.w):
                at, to = i * it.x_n + r * it.x_r + q * it.cp, dy + i * it.y_n + r * it.y_r + q * it.ocp
                for c in range(it.c):
                    xh = (ws[x + at + c] - mean) * rate
                    ws[dx + at + c] = rate * (ws[scale + c] * ws[to + c] - level - xh * slope)


@inlined
def run_forward_tangent(ws, code, l, now, first, last):
    """LAYER_NORM_TANGENT, of samples first .. last."""
    it = one(LAYER_NORM_TANGENT, code, l)
    x, x_dot = place(now, it.x), place(now, it.x_dot)
    y_dot = place(now, it.y_dot)
    scale, scale_dot = place(now, it.scale), place(now, it.scale_dot)
    shift_dot = place(now, it.shift_dot)
    stats, tangents = place(now, it.stats), place(now, it.tangents)
    inner = it.inner != 0
    _forward_tangent(ws, it, first, last, x, x_dot, y_dot, scale, scale_dot, shift_dot, stats, tangents, inner)


@kernel
def _forward_tangent(ws, it, first, last, x, x_dot, y_dot, scale, scale_dot, shift_dot, stats, tangents, inner):
    zero = ws.dtype.type(0.0)
    for i in range(first, last):
        mean, rate = ws[stats + i], ws[stats + it.n + i]
        mean_dot, along = zero, zero
        if inner:
            mean_dot = _mean(ws, it, x_dot, i)
            along = rate * _mean_of_product(ws, it, x, mean, x_dot, zero, i)
        ws[tangents + i], ws[tangents + it.n + i] = mean_dot, along
        for r in range(it.h):
            for q in range(it.w):
                at, to = i * it.x_n + r * it.x_r + q * it.cp, y_dot + i * it.y_n + r * it.y_r + q * it.ocp
                for c in range(it.c):
                    xh = (ws[x + at + c] - mean) * rate
                    xh_dot = rate * (ws[x_dot + at + c] - mean_dot - xh * along) if inner else zero
                    ws[to + c] = ws[scale + c] * xh_dot + ws[scale_dot + c] * xh + ws[shift_dot + c]


@inlined
def run_backward_tangent(ws, code, l, now, first, last):
    """LAYER_NORM_BACKWARD_TANGENT, of samples first .. last."""
    it = one(LAYER_NORM_BACKWARD_TANGENT, code, l)
    x, x_dot = place(now, it.x), place(now, it.x_dot)
    dy, dy_dot = place(now, it.dy), place(now, it.dy_dot)
    dx_dot = place(now, it.dx_dot)
    scale, scale_dot = place(now, it.scale), place(now, it.scale_dot)
    stats, tangents = place(now, it.stats), place(now, it.tangents)
    _backward_tangent(ws, it, first, last, x, x_dot, dy, dy_dot, dx_dot, scale, scale_dot, stats, tangents)


@kernel
def _backward_tangent(ws, it, first, last, x, x_dot, dy, dy_dot, dx_dot, scale, scale_dot, stats, tangents):
    count, zero = ws.dtype.type(it.h * it.w * it.c), ws.dtype.type(0.0)
    for i in range(first, last):
        mean, rate = ws[stats + i], ws[stats + it.n + i]
        mean_dot, along = ws[tangents + i], ws[tangents + it.n + i]
        level, slope = zero, zero
        level_dot, slope_dot = zero, zero
        for r in range(it.h):
            for q in range(it.w):
                at, to = i * it.x_n + r * it.x_r + q * it.cp, i * it.y_n + r * it.y_r + q * it.ocp
                for c in range(it.c):
                    xh = (ws[x + at + c] - mean) * rate
                    xh_dot = rate * (ws[x_dot + at + c] - mean_dot - xh * along)
                    g = ws[scale + c] * ws[dy + to + c]
                    g_dot = ws[scale_dot + c] * ws[dy + to + c] + ws[scale + c] * ws[dy_dot + to + c]
                    level += g
                    slope += xh * g
                    level_dot += g_dot
                    slope_dot += xh * g_dot + xh_dot * g
        level, slope = level / count, slope / count
        level_dot, slope_dot = level_dot / count, slope_dot / count
        for r in range(it.h):
            for q in range(it.w):
                at, to = i * it.x_n + r * it.x_r + q * it.cp, i * it.y_n + r * it.y_r + q * it.ocp
                for c in range(it.c):
                    xh = (ws[x + at + c] - mean) * rate
                    xh_dot = rate * (ws[x_dot + at + c] - mean_dot - xh * along)
                    g = ws[scale + c] * ws[dy + to + c]
                    g_dot = ws[scale_dot + c] * ws[dy + to + c] + ws[scale + c] * ws[dy_dot + to + c]
                    turned = g_dot - level_dot - xh_dot * slope - xh * slope_dot
                    ws[dx_dot + at + c] = rate * (turned - rate * along * (g - level - xh * slope))


@inlined
def run_gradient(ws, code, l, now, first, last):
    """LAYER_NORM_GRADIENT: scale = sum (d xh + dy xh_dot) and shift = sum d, of channels first .. last."""
    it = one(LAYER_NORM_GRADIENT, code, l)
    x, x_dot = place(now, it.x), place(now, it.x_dot)
    d, dy = place(now, it.d), place(now, it.dy)
    stats, tangents = place(now, it.stats), place(now, it.tangents)
    sign = ws.dtype.type(now.sign)
    last = min(last, it.c)
    _sums(ws, it, first, last, x, x_dot, d, dy, stats, tangents, place(now, it.scale), place(now, it.shift), sign)


@kernel
def _sums(ws, it, first, last, x, x_dot, d, dy, stats, tangents, scale, shift, sign):
    second, zero = it.second != 0, ws.dtype.type(0.0)
    for c in range(first, last):
        dscale, dshift = zero, zero
        for i in range(it.n):
            mean, rate = ws[stats + i], ws[stats + it.n + i]
            for r in range(it.h):
                for q in range(it.w):
                    at, to = i * it.x_n + r * it.x_r + q * it.cp + c, i * it.y_n + r * it.y_r + q * it.ocp + c
                    xh = (ws[x + at] - mean) * rate
                    dscale += ws[d + to] * xh
                    dshift += ws[d + to]
                    if second:
                        xh_dot = rate * (ws[x_dot + at] - ws[tangents + i] - xh * ws[tangents + it.n + i])
                        dscale += ws[dy + to] * xh_dot
        ws[scale + c] = ws[scale + c] + sign * dscale if it.add else dscale
        ws[shift + c] = ws[shift + c] + sign * dshift if it.add else dshift
