"""y = x * W over bordered images as instructions: no patches are copied, the products stride over the image itself.

For output row y and tap row ky, the K x CP input values under a pixel are contiguous, so one product with K1 = kernel
rows and K = kernel * CP makes a row of outputs. Tile rows are the pixels of an image row or, where images are
small, the samples. The adjoint of stride s is s * s plain convolutions, one a residue class of input pixels.

Taps on the border of zeros are left out: places whose taps lie inside alike have a product of their own. Where tile
rows are pixels only lines are told apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fastmeta_kernels.cpu.layers.products import BY_ROWS, SUM, SUM_J, multiply, transposed
from fastmeta_kernels.cpu.layers.taps import inside, reached, runs
from fastmeta_kernels.cpu.layout.instruction import BIAS, CHANNELS, NONE, Code, Operand
from fastmeta_kernels.cpu.layout.layer import Layer
from fastmeta_kernels.cpu.layout.places import ADD, SIGNED, Into, Places

RECTIFIES, MASKS_INPUTS = False, False
LONG = 14  # pixels: a row of so many fills a tile; shorter rows go by samples where there are more of them
MANY = 64  # pixels: an image of so many is summed before the next is looked at


class _Image(NamedTuple):
    """The first pixel of the first sample, and the distances to the next pixel, line and sample."""

    first: Operand
    pixel: int
    line: int
    sample: int


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
    k, p = layer.kernel, layer.padding
    s = layer.stride
    cp, o = layer.cp, layer.ocp
    xr, xn = layer.x_r, layer.x_n
    yr, yn = layer.y_r, layer.y_n
    by_pixels = layer.ow >= min(n, LONG)
    across = [(0, layer.ow, range(k))] if by_pixels else list(runs(inside(layer.ow, s, -p, k, layer.w)))
    for top, lines, tall in runs(inside(layer.oh, s, -p, k, layer.h)):
        for left, pixels, wide in across:
            x0 = x.behind((s * top + tall.start - p) * xr + (s * left + wide.start - p) * cp)
            y0 = y.behind(top * yr + left * o)
            shape, b = (o, len(tall), len(wide) * cp), (w.behind((tall.start * k + wide.start) * cp * o), o, k * cp * o)
            a, c = _Image(x0, s * cp, s * xr, xn), _Image(y0, o, yr, yn)
            _products(code, (pixels, lines, n), by_pixels, shape, a, xr, b, c, bias, relu, add)


def _products(
    code: Code, counts: tuple[int, int, int], by_pixels: bool, shape: tuple[int, int, int], a: _Image, a1: int,
    b: tuple[Operand, int, int], c: _Image, bias: Operand = NONE, relu: bool = False, add: bool = False,
) -> None:  # fmt: skip
    """A product of shape (n, K1, K) for so many pixels, lines and samples; a tile's rows are pixels or samples."""
    i, j, samples = ((count, a[d], 0, c[d]) for d, count in enumerate(counts, 1))
    rows, i, j = (i, j, samples) if by_pixels else (samples, i, j)
    flags = (ADD if add else 0) | (BY_ROWS if rows[0] > 2 * i[0] * j[0] else 0)  # few places: threads share the rows
    multiply(code, (rows[0], *shape), (a.first, rows[1], 1, a1), b, (c.first, rows[3]), bias, relu, flags, i, j)


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
    for ky0, kx0, taps_y, taps_x in _classes(layer):
        depth = taps_x * o
        iy, ix = (ky0 - p) % s, (kx0 - p) % s
        lines, pixels = -(-(layer.h - iy) // s), -(-(layer.w - ix) // s)
        oy = (iy + p - ky0) // s - max(taps_y - 1, 0)
        ox = (ix + p - kx0) // s - max(taps_x - 1, 0)
        by_pixels = pixels >= min(n, LONG)
        across = [(0, pixels, range(taps_x))] if by_pixels else list(runs(inside(pixels, 1, ox, taps_x, layer.ow)))
        for top, count, tall in runs(inside(lines, 1, oy, taps_y, layer.oh)):
            for left, places, wide in across:
                a0 = dy.behind((oy + top + tall.start) * yr + (ox + left + wide.start) * o)
                c0 = dx.behind((iy + s * top) * xr + (ix + s * left) * cp)
                b = (t.behind((tall.start * depth + wide.start * o) * cp), cp, depth * cp)
                a, c = _Image(a0, o, yr, yn), _Image(c0, s * cp, s * xr, xn)
                shape = cp, len(tall), len(wide) * o
                _products(code, (places, count, n), by_pixels, shape, a, yr, b, c, add=add)
        t = t.behind(taps_y * depth * cp)


def _weight_gradient(code: Code, layer: Layer, x: Operand, dy: Operand, into: Into, more: bool = False) -> None:
    """dW[ky, kx, c, o] = sum of x[s y + ky - p, s x + kx - p, c] dy[y, x, o], or += sign * (...); more: += (...)."""
    n = layer.n
    k, p = layer.kernel, layer.padding
    s = layer.stride
    cp, o = layer.cp, layer.ocp
    xr, xn = layer.x_r, layer.x_n
    yr, yn = layer.y_r, layer.y_n
    flags = BY_ROWS | ((ADD | SIGNED) if into.adds or more else 0)
    by_samples = n > layer.oh and layer.oh * layer.ow < MANY
    if layer.oh * layer.ow > k * k * cp:  # an image is more to read than the sums: all its taps before the next
        lines, samples = (layer.oh, s * xr, yr, 0), (n, xn, yn, 0)
        k1, j = (samples, lines) if by_samples else (lines, samples)
        a, b = (x.behind(-p * (xr + cp)), 1, s * cp, k1[1]), (dy, o, k1[2])
        shape = k * cp, o, k1[0], layer.ow
        multiply(code, shape, a, b, (into.weight, o), flags=flags | SUM_J, i=(k, xr, 0, k * cp * o), j=j)
        return
    across = list(runs(reached(layer.ow, s, -p, k, layer.w)))
    for ky, tall in enumerate(reached(layer.oh, s, -p, k, layer.h)):
        for kx, taps, wide in across:
            x0 = x.behind((s * tall.start + ky - p) * xr + (s * wide.start + kx - p) * cp)
            dy0, to = dy.behind(tall.start * yr + wide.start * o), into.weight.behind((ky * k + kx) * cp * o)
            lines, samples = (max(1, len(tall)), s * xr, yr, 0), (n, xn, yn, 0)
            k1, i = (samples, lines) if by_samples else (lines, samples)
            a, b = (x0, 1, s * cp, k1[1]), (dy0, o, k1[2])
            shape = taps * cp, o, k1[0], len(wide) if tall else 0
            multiply(code, shape, a, b, (to, o), flags=flags | SUM, i=i)
