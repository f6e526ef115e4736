"""y = x * W over bordered images as instructions: no patches are copied, the products stride over the image itself.

For output row y and tap row ky, the K x CP input values under a pixel are contiguous, so one product with K1 = kernel
rows and K = kernel * CP makes a row of outputs. Tile rows are the pixels of an image row or, where images are
small, the samples. The adjoint of stride s is s * s plain convolutions, one a residue class of input pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

from fastmeta_kernels.cpu.layers.linear import Row, backward_bias
from fastmeta_kernels.cpu.layers.products import ADD, BY_ROWS, SIGNED, SUM, SUM_J, multiply
from fastmeta_kernels.cpu.layout.instruction import OWN, TRANSPOSE, Code
from fastmeta_kernels.cpu.layout.network import CP, KERNEL, OCP, OH, OW, PADDING, STRIDE, X_N, X_R, Y_N, Y_R, H, N, W

LONG = 7  # pixels: a row of so many fills a tile; shorter rows go by samples where there are more of them
MANY = 64  # pixels: an image of so many is summed before the next is looked at

__all__ = [
    "backward",
    "backward_bias",
    "backward_tangent",
    "backward_weight",
    "backward_weight_tangent",
    "forward",
    "forward_tangent",
    "transpose_weight",
]


def forward(code: Code, row: Row, x: int, w: int, bias: int, y: int, relu: bool = False, add: bool = False) -> None:
    """y = x * W + bias, or y += x * W."""
    n, k, s, cp, o = row[N], row[KERNEL], row[STRIDE], row[CP], row[OCP]
    xr, xn, yr, yn = row[X_R], row[X_N], row[Y_R], row[Y_N]
    x0, b, flags = x - 8 * row[PADDING] * (xr + cp), (w, o, k * cp * o), ADD if add else 0
    if row[OW] >= min(n, LONG):
        a, i, j = (x0, s * cp, 1, xr), (row[OH], s * xr, 0, yr), (n, xn, 0, yn)
        multiply(code, (row[OW], o, k, k * cp), a, b, (y, o), bias, relu, flags, i, j)
    else:
        a, i, j = (x0, xn, 1, xr), (row[OW], s * cp, 0, o), (row[OH], s * xr, 0, yr)
        multiply(code, (n, o, k, k * cp), a, b, (y, yn), bias, relu, flags, i, j)


def forward_tangent(code: Code, row: Row, x: int, x_dot: int, w: int, w_dot: int, bias_dot: int, y_dot: int) -> None:
    """y_dot = x * W_dot + x_dot * W + bias_dot."""
    forward(code, row, x, w_dot, bias_dot, y_dot)
    forward(code, row, x_dot, w, 0, y_dot, add=True)


def _classes(row: Row) -> Iterator[tuple[int, int, int, int]]:
    """(ky0, kx0, taps_y, taps_x) of each residue class of taps."""
    k, s = int(row[KERNEL]), int(row[STRIDE])
    count = [-(-(k - first) // s) if first < k else 0 for first in range(s)]
    yield from ((ky, kx, count[ky], count[kx]) for ky in range(s) for kx in range(s))


def transpose_weight(code: Code, row: Row, w: int, t: int) -> None:
    """Taps of each residue class in falling order, each (CP, OCP) block transposed."""
    k, s, cp, o = row[KERNEL], row[STRIDE], row[CP], row[OCP]
    for ky0, kx0, taps_y, taps_x in _classes(row):
        for ky in range(taps_y - 1, -1, -1):
            for kx in range(taps_x - 1, -1, -1):
                tap = (ky0 + ky * s) * k + kx0 + kx * s
                code.add(TRANSPOSE, OWN, w + 8 * tap * cp * o, o, t, cp, cp, o)
                t += 8 * cp * o


def backward(code: Code, row: Row, dy: int, t: int, dx: int, add: bool = False) -> None:
    """dx[q] = sum of dy[(q + p - k) / s] W[k]^T over the taps k that divide (or +=), t from transpose_weight."""
    n, s, p, cp, o = row[N], row[STRIDE], row[PADDING], row[CP], row[OCP]
    xr, xn, yr, yn = row[X_R], row[X_N], row[Y_R], row[Y_N]
    flags = ADD if add else 0
    for ky0, kx0, taps_y, taps_x in _classes(row):
        depth, iy, ix = taps_x * o, (ky0 - p) % s, (kx0 - p) % s
        lines, pixels = -(-(row[H] - iy) // s), -(-(row[W] - ix) // s)
        oy = (iy + p - ky0) // s - max(taps_y - 1, 0)
        ox = (ix + p - kx0) // s - max(taps_x - 1, 0)
        a0, c0, b = dy + 8 * (oy * yr + ox * o), dx + 8 * (iy * xr + ix * cp), (t, cp, depth * cp)
        if lines > 0 and pixels >= min(n, LONG):
            i, j = (lines, yr, 0, s * xr), (n, yn, 0, xn)
            multiply(code, (pixels, cp, taps_y, depth), (a0, o, 1, yr), b, (c0, s * cp), 0, False, flags, i, j)
        elif lines > 0 and pixels > 0:
            i, j = (pixels, o, 0, s * cp), (lines, yr, 0, s * xr)
            multiply(code, (n, cp, taps_y, depth), (a0, yn, 1, yr), b, (c0, xn), 0, False, flags, i, j)
        t += 8 * taps_y * depth * cp


def backward_tangent(code: Code, row: Row, dy: int, dy_dot: int, t: int, t_dot: int, dx_dot: int) -> None:
    """dx_dot = the adjoints of W_dot of dy and of W of dy_dot."""
    backward(code, row, dy, t_dot, dx_dot)
    backward(code, row, dy_dot, t, dx_dot, add=True)


def backward_weight(code: Code, row: Row, x: int, dy: int, out: int, add: bool = False) -> None:
    """out[ky, kx, c, o] = sum of x[s y + ky - p, s x + kx - p, c] dy[y, x, o], or out += sign * (...)."""
    n, k, s, cp, o = row[N], row[KERNEL], row[STRIDE], row[CP], row[OCP]
    xr, xn, yr, yn = row[X_R], row[X_N], row[Y_R], row[Y_N]
    x0, flags = x - 8 * row[PADDING] * (xr + cp), BY_ROWS | ((ADD | SIGNED) if add else 0)
    taps = (k, xr, 0, k * cp * o)
    if n > row[OH] and row[OH] * row[OW] < MANY:
        i, K1, a1, b1 = (row[OH], s * xr, yr, 0), n, xn, yn
    else:
        i, K1, a1, b1 = (n, xn, yn, 0), row[OH], s * xr, yr
    shape, a, b = (k * cp, o, K1, row[OW]), (x0, 1, s * cp, a1), (dy, o, b1)
    if row[OH] * row[OW] > k * k * cp:  # an image is more to read than the sums: all its taps before the next
        multiply(code, shape, a, b, (out, o), 0, False, flags | SUM_J, taps, i)
    else:
        multiply(code, shape, a, b, (out, o), 0, False, flags | SUM, i, taps)


def backward_weight_tangent(
    code: Code, row: Row, x: int, x_dot: int, dy: int, dy_dot: int, out: int, add: bool
) -> None:
    """out = the gradient of W from x and dy_dot and from x_dot and dy, or out += sign * (...)."""
    backward_weight(code, row, x, dy_dot, out, add)
    backward_weight(code, row, x_dot, dy, out, add=True)
