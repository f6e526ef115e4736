"""Scale and shift of each channel in a workspace: the four functions of the layer are one map and one sum."""

from __future__ import annotations

from fastmeta_kernels.cpu.layout.instruction import AFFINE, AFFINE_GRADIENT, CHANNELS, NONE, Code, Operand, one, place
from fastmeta_kernels.cpu.layout.layer import Layer
from fastmeta_kernels.cpu.layout.places import Into, Places
from fastmeta_kernels.cpu.machine.jit import inlined, kernel
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES, load, splat, store

RECTIFIES, MASKS_INPUTS = False, False


def forward(code: Code, layer: Layer, at: Places) -> None:
    """y = scale x + shift."""
    code.add(AFFINE, CHANNELS, layer, a=at.x, gain=at.weight, b=at.x, slope=at.weight, shift=at.bias, out=at.y)


def forward_tangent(code: Code, layer: Layer, at: Places) -> None:
    """y_dot = scale x_dot + scale_dot x + shift_dot."""
    factors = {"a": at.x, "gain": at.weight_dot, "b": at.x_dot, "slope": at.weight}
    code.add(AFFINE, CHANNELS, layer, **factors, shift=at.bias_dot, out=at.y_dot, second=at.inner)


def backward(code: Code, layer: Layer, at: Places, into: Into | None, transpose: bool) -> None:
    """dscale = sum dy x, dshift = sum dy, dx = scale dy."""
    if into:
        _gradient(code, layer, (at.x, at.dy), (at.x, at.dy), into, second=False)
    if at.inner:
        factors = {"a": at.dy, "gain": at.weight, "b": at.dy, "slope": at.weight}
        code.add(AFFINE, CHANNELS, layer, **factors, shift=NONE, out=at.dx, back=True)


def backward_tangent(code: Code, layer: Layer, at: Places, into: Into) -> None:
    """dscale_dot = sum (dy_dot x + dy x_dot), dshift_dot = sum dy_dot, dx_dot = scale_dot dy + scale dy_dot."""
    _gradient(code, layer, (at.x, at.dy_dot), (at.x_dot, at.dy), into, second=at.inner)
    if at.inner:
        factors = {"a": at.dy, "gain": at.weight_dot, "b": at.dy_dot, "slope": at.weight}
        code.add(AFFINE, CHANNELS, layer, **factors, shift=NONE, out=at.dx_dot, second=True, back=True)


def _gradient(
    code: Code, layer: Layer, pair: tuple[Operand, Operand], other: tuple[Operand, Operand], into: Into, second: bool
) -> None:
    factors = {"x": pair[0], "d": pair[1], "x_dot": other[0], "dy": other[1]}
    code.add(
        AFFINE_GRADIENT, CHANNELS, layer, **factors, scale=into.weight, shift=into.bias, second=second, add=into.adds
    )


@inlined
def run_map(ws, code, l, now, first, last):
    """AFFINE, out = gain a + slope b + shift, of channels first .. last."""
    it = one(AFFINE, code, l)
    a, b = place(now, it.a), place(now, it.b)
    shift, out = place(now, it.shift), place(now, it.out)
    _map(ws, it, it.n, first, last, a, place(now, it.gain), b, place(now, it.slope), shift, out)


@inlined
def run_gradient(ws, code, l, now, first, last):
    """AFFINE_GRADIENT, scale = sum (d x + dy x_dot) and shift = sum d, of channels first .. last."""
    it = one(AFFINE_GRADIENT, code, l)
    x, d = place(now, it.x), place(now, it.d)
    x_dot, dy = place(now, it.x_dot), place(now, it.dy)
    scale, shift = place(now, it.scale), place(now, it.shift)
    _sums(ws, it, it.n, first, last, x, d, x_dot, dy, scale, shift, ws.dtype.type(now.sign))


@kernel
def _map(ws, it, n, first, last, a, w, b, u, shift, out):
    cp, width = it.cp, VECTOR_BYTES // ws.itemsize
    second, back = it.second != 0, it.back != 0
    from_n, from_r = (it.y_n, it.y_r) if back else (it.x_n, it.x_r)
    to_n, to_r = (it.x_n, it.x_r) if back else (it.y_n, it.y_r)
    for j in range(first, last, width):
        gain, level = load(ws, w + j), load(ws, shift + j)
        slope = load(ws, u + j)
        for i in range(n):
            for r in range(it.h):
                at, to = i * from_n + r * from_r + j, out + i * to_n + r * to_r + j
                for q in range(0, it.w * cp, cp):
                    value = gain * load(ws, a + at + q) + level
                    if second:
                        value = value + slope * load(ws, b + at + q)
                    store(ws, to + q, value)


@kernel
def _sums(ws, it, n, first, last, x, d, x_dot, dy, w, shift, sign):
    cp, width = it.cp, VECTOR_BYTES // ws.itemsize
    second, add = it.second != 0, it.add != 0
    signs = splat(sign)
    zero = splat(ws.dtype.type(0.0))
    for j in range(first, last, width):
        dscale, dshift = zero, zero
        for i in range(n):
            for r in range(it.h):
                at, to = i * it.x_n + r * it.x_r + j, i * it.y_n + r * it.y_r + j
                part, other = zero, zero
                for q in range(0, it.w * cp, cp):
                    e = load(ws, d + to + q)
                    part, other = part + e * load(ws, x + at + q), other + e
                    if second:
                        part = part + load(ws, dy + to + q) * load(ws, x_dot + at + q)
                dscale, dshift = dscale + part, dshift + other
        store(ws, w + j, load(ws, w + j) + signs * dscale if add else dscale)
        store(ws, shift + j, load(ws, shift + j) + signs * dshift if add else dshift)
