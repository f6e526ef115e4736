"""y = x * W over bordered images as instructions: no patches are copied, the products stride over the image itself.

For output row y and tap row ky, the K x CP input values under a pixel are contiguous, so one product with K1 = kernel
rows and K = kernel * CP makes a row of outputs. Tile rows are the pixels of an image row or, where images are
small, the samples. The adjoint of stride s is s * s plain convolutions, one a residue class of input pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

from fastmeta_kernels.cpu.layers.products import BY_ROWS, SUM, SUM_J, multiply, transposed
from fastmeta_kernels.cpu.layout.instruction import BIAS, CHANNELS, NONE, Code, Operand
from fastmeta_kernels.cpu.layout.layer import Layer
from fastmeta_kernels.cpu.layout.places import ADD, SIGNED, Into, Places

RECTIFIES, MASKS_INPUTS = False, False
LONG = 7  # pixels: a row of so many fills a tile; shorter rows go by samples where there are more of them
MANY = 64  # pixels: an image of so many is summed before the next is looked at


def forward(code: Code, layer: Layer, at: Places) -> None:
    """y = x * W + b."""
    _convolve(code, layer, at.x, at.weight, at.bias, at.y, layer.relu)


def forward_tangent(code: Code, layer: Layer, at: Places) -> None:
    """y_dot = x * W_dot + x_dot * W + b_dot."""
    _convolve(code, layer, at.x, at.weight_dot, at.bias_dot, at.y_dot)
    if at.inner:
        _convolve(code, layer, at.x_dot, at.weight, NONE, at.y_dot, add=True)


def transpose_weight(code: Code, layer: Layer, w: Operand, t: Operand) -> None:
    """Taps of each residue class in falling order, each (CP, OCP) block transposed."""
    k, s = layer.kernel, layer.stride
    cp, o = layer.cp, layer.ocp
    for ky0, kx0, taps_y, taps_x in _classes(layer):
        for ky in range(taps_y - 1, -1, -1):
            for kx in range(taps_x - 1, -1, -1):
                tap = (ky0 + ky * s) * k + kx0 + kx * s
                transposed(code, w.behind(tap * cp * o), o, t, cp, cp, o)
                t = t.behind(cp * o)


def backward(code: Code, layer: Layer, at: Places, into: Into | None, transpose: bool) -> None:
    """dW and db, and dx[q] = sum of dy[(q + p - k) / s] W[k]^T over the taps k that divide."""
    if into:
        _weight_gradient(code, layer, at.x, at.dy, into)
        bias_gradient(code, layer, at.dy, into)
    if not at.inner:
        return
    if transpose:
        transpose_weight(code, layer, at.weight, at.transposed)
    _adjoint(code, layer, at.dy, at.transposed, at.dx)


def backward_tangent(code: Code, layer: Layer, at: Places, into: Into) -> None:
    """dW_dot from x and dy_dot and from x_dot and dy; dx_dot = the adjoints of W_dot of dy and of W of dy_dot."""
    _weight_gradient(code, layer, at.x, at.dy_dot, into)
    if at.inner:
        _weight_gradient(code, layer, at.x_dot, at.dy, into, more=True)
    bias_gradient(code, layer, at.dy_dot, into)
    if at.inner:
        transpose_weight(code, layer, at.weight_dot, at.transposed_dot)
        _adjoint(code, layer, at.dy, at.transposed_dot, at.dx_dot)
        _adjoint(code, layer, at.dy_dot, at.transposed, at.dx_dot, add=True)


def bias_gradient(code: Code, layer: Layer, dy: Operand, into: Into) -> None:
    """db = sum over samples and pixels of dy, or db += sign * (...), where there is a bias."""
    if into.bias:
        code.add(BIAS, CHANNELS, layer, dy=dy, out=into.bias, add=into.adds)


def _convolve(
    code: Code, layer: Layer, x: Operand, w: Operand, bias: Operand, y: Operand, relu: bool = False, add: bool = False
) -> None:
    """y = x * W + bias, or y += x * W."""
    n = layer.n
    k, s = layer.kernel, layer.stride
    cp, o = layer.cp, layer.ocp
    xr, xn = layer.x_r, layer.x_n
    yr, yn = layer.y_r, layer.y_n
    x0 = x.behind(-layer.padding * (xr + cp))
    b, flags = (w, o, k * cp * o), ADD if add else 0
    if layer.ow >= min(n, LONG):
        a, i = (x0, s * cp, 1, xr), (layer.oh, s * xr, 0, yr)
        j = (n, xn, 0, yn)
        multiply(code, (layer.ow, o, k, k * cp), a, b, (y, o), bias, relu, flags, i, j)
    else:
        a, i = (x0, xn, 1, xr), (layer.ow, s * cp, 0, o)
        j = (layer.oh, s * xr, 0, yr)
        multiply(code, (n, o, k, k * cp), a, b, (y, yn), bias, relu, flags, i, j)


def _classes(layer: Layer) -> Iterator[tuple[int, int, int, int]]:
    """(ky0, kx0, taps_y, taps_x) of each residue class of taps."""
    k, s = layer.kernel, layer.stride
    count = [-(-(k - first) // s) if first < k else 0 for first in range(s)]
    yield from ((ky, kx, count[ky], count[kx]) for ky in range(s) for kx in range(s))


def _adjoint(code: Code, layer: Layer, dy: Operand, t: Operand, dx: Operand, add: bool = False) -> None:
    """dx = the adjoint of W of dy (or +=), t from transpose_weight."""
    n = layer.n
    s, p = layer.stride, layer.padding
    cp, o = layer.cp, layer.ocp
    xr, xn = layer.x_r, layer.x_n
    yr, yn = layer.y_r, layer.y_n
    flags = ADD if add else 0
    for ky0, kx0, taps_y, taps_x in _classes(layer):
        depth = taps_x * o
        iy, ix = (ky0 - p) % s, (kx0 - p) % s
        lines, pixels = -(-(layer.h - iy) // s), -(-(layer.w - ix) // s)
        oy = (iy + p - ky0) // s - max(taps_y - 1, 0)
        ox = (ix + p - kx0) // s - max(taps_x - 1, 0)
        a0, c0 = dy.behind(oy * yr + ox * o), dx.behind(iy * xr + ix * cp)
        b = (t, cp, depth * cp)
        if lines > 0 and pixels >= min(n, LONG):
            i, j = (lines, yr, 0, s * xr), (n, yn, 0, xn)
            multiply(code, (pixels, cp, taps_y, depth), (a0, o, 1, yr), b, (c0, s * cp), flags=flags, i=i, j=j)
        elif lines > 0 and pixels > 0:
            i, j = (pixels, o, 0, s * cp), (lines, yr, 0, s * xr)
            multiply(code, (n, cp, taps_y, depth), (a0, yn, 1, yr), b, (c0, xn), flags=flags, i=i, j=j)
        t = t.behind(taps_y * depth * cp)


def _weight_gradient(code: Code, layer: Layer, x: Operand, dy: Operand, into: Into, more: bool = False) -> None:
    """dW[ky, kx, c, o] = sum of x[s y + ky - p, s x + kx - p, c] dy[y, x, o], or += sign * (...); more: += (...)."""
    n = layer.n
    k, s = layer.kernel, layer.stride
    cp, o = layer.cp, layer.ocp
    xr, xn = layer.x_r, layer.x_n
    yr, yn = layer.y_r, layer.y_n
    x0 = x.behind(-layer.padding * (xr + cp))
    flags = BY_ROWS | ((ADD | SIGNED) if into.adds or more else 0)
    taps = (k, xr, 0, k * cp * o)
    if n > layer.oh and layer.oh * layer.ow < MANY:
        i = (layer.oh, s * xr, yr, 0)
        k1 = n
        a1, b1 = xn, yn
    else:
        i = (n, xn, yn, 0)
        k1 = layer.oh
        a1, b1 = s * xr, yr
    shape = k * cp, o, k1, layer.ow
    a, b = (x0, 1, s * cp, a1), (dy, o, b1)
    if layer.oh * layer.ow > k * k * cp:  # an image is more to read than the sums: all its taps before the next
        multiply(code, shape, a, b, (into.weight, o), flags=flags | SUM_J, i=taps, j=i)
    else:
        multiply(code, shape, a, b, (into.weight, o), flags=flags | SUM, i=i, j=taps)
