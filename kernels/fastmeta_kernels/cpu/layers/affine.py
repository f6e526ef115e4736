"""Scale and shift of each channel in a workspace: the four functions of the layer are one map and one sum."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.cpu.layout.instruction import AFFINE, AFFINE_GRADIENT, ARGUMENTS, CHANNELS, Code
from fastmeta_kernels.cpu.layout.network import CP, X_N, X_R, Y_N, Y_R, H, W
from fastmeta_kernels.cpu.machine.jit import kernel
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES, load, splat, store


def emit(
    code: Code, row: NDArray[np.int64], a: int, w: int, b: int, u: int, shift: int, out: int, second: bool, back: bool
) -> None:
    """Emit out = w a + u b + shift, without u b where there is no second; back: from outputs' to inputs' places."""
    code.add(AFFINE, CHANNELS, a, w, b, u, shift, out, second, back, row=row)


def emit_gradient(
    code: Code, row: NDArray[np.int64], x: int, d: int, x_dot: int, dy: int, w: int, shift: int, second: bool, add: bool
) -> None:
    """Emit w = sum (d x + dy x_dot), without dy x_dot where there is no second, and shift = sum d; or += sign * ..."""
    code.add(AFFINE_GRADIENT, CHANNELS, x, d, x_dot, dy, w, shift, second, add, row=row)


@kernel
def run(ws, code, l, n, first, last, a, w, b, u, shift, out):
    """AFFINE, for channels first .. last, whole vectors of them."""
    cp, width = code[l, CP], VECTOR_BYTES // ws.itemsize
    second, back = code[l, ARGUMENTS + 6] != 0, code[l, ARGUMENTS + 7] != 0
    from_n, from_r = (code[l, Y_N], code[l, Y_R]) if back else (code[l, X_N], code[l, X_R])
    to_n, to_r = (code[l, X_N], code[l, X_R]) if back else (code[l, Y_N], code[l, Y_R])
    for j in range(first, last, width):
        gain, level, slope = load(ws, w + j), load(ws, shift + j), load(ws, u + j)
        for i in range(n):
            for r in range(code[l, H]):
                at, to = i * from_n + r * from_r + j, out + i * to_n + r * to_r + j
                for q in range(0, code[l, W] * cp, cp):
                    value = gain * load(ws, a + at + q) + level
                    if second:
                        value = value + slope * load(ws, b + at + q)
                    store(ws, to + q, value)


@kernel
def run_gradient(ws, code, l, n, first, last, x, d, x_dot, dy, w, shift, sign):
    """AFFINE_GRADIENT, for channels first .. last, whole vectors of them."""
    cp, width = code[l, CP], VECTOR_BYTES // ws.itemsize
    second, add, signs = code[l, ARGUMENTS + 6] != 0, code[l, ARGUMENTS + 7] != 0, splat(sign)
    zero = splat(ws.dtype.type(0.0))
    for j in range(first, last, width):
        dscale, dshift = zero, zero
        for i in range(n):
            for r in range(code[l, H]):
                at, to = i * code[l, X_N] + r * code[l, X_R] + j, i * code[l, Y_N] + r * code[l, Y_R] + j
                part, other = zero, zero
                for q in range(0, code[l, W] * cp, cp):
                    e = load(ws, d + to + q)
                    part, other = part + e * load(ws, x + at + q), other + e
                    if second:
                        part = part + load(ws, dy + to + q) * load(ws, x_dot + at + q)
                dscale, dshift = dscale + part, dshift + other
        store(ws, w + j, load(ws, w + j) + signs * dscale if add else dscale)
        store(ws, shift + j, load(ws, shift + j) + signs * dshift if add else dshift)
