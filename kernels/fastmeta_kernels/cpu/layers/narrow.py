"""The last linear layer where it has few outputs: y = x W + b with W kept transposed, (O, H, W, CP), and y dense.

Its outputs are dot products of whole vectors, its other products run along the inputs: nothing is padded to a vector of
outputs and nothing is transposed. It has no ReLU, and behind it are at most learned values.
"""

from __future__ import annotations

from fastmeta_kernels.cpu.layers.linear import at_row
from fastmeta_kernels.cpu.layers.products import BY_ROWS, PAIR, SUMS_OF_A, multiply
from fastmeta_kernels.cpu.layout.instruction import DOTS, NONE, SAMPLES, Code, Operand, one, place
from fastmeta_kernels.cpu.layout.layer import Layer
from fastmeta_kernels.cpu.layout.places import Into, Places
from fastmeta_kernels.cpu.machine.jit import inlined, kernel
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES, load, splat, total

RECTIFIES, MASKS_INPUTS = False, True
GROUP = 4  # samples that share what is read of W


def forward(code: Code, layer: Layer, at: Places) -> None:
    """y = x W + b."""
    code.add(DOTS, SAMPLES, layer, x=at.x, weight=at.weight, bias=at.bias, y=at.y)


def forward_tangent(code: Code, layer: Layer, at: Places) -> None:
    """y_dot = x W_dot + x_dot W + b_dot."""
    x_dot, weight = (at.x_dot, at.weight) if at.inner else (NONE, NONE)
    fields = {"x": at.x, "weight": at.weight_dot, "bias": at.bias_dot, "y": at.y_dot}
    code.add(DOTS, SAMPLES, layer, **fields, x_dot=x_dot, weight_dot=weight)


def transpose_weight(code: Code, layer: Layer, w: Operand, t: Operand) -> None:
    """W is kept so."""


def backward(code: Code, layer: Layer, at: Places, into: Into | None, transpose: bool) -> None:
    """dW = dy^T x, db = sum over samples of dy, dx = dy W^T; 0 but where the mask is positive."""
    if into:
        weight_gradient(code, layer, at, into)
    line, o = layer.w * layer.cp, layer.oc
    for h in range(layer.h if at.inner else 0):
        b, c = (at.weight.behind(h * line), layer.h * line, 0), (at.dx.behind(h * layer.x_r), layer.x_n)
        a, mask = (at.dy, o, 1, 0), at_row(at.mask, layer, h)
        multiply(code, (layer.n, line, 1, o), a, b, c, flags=BY_ROWS, mask=mask)


def backward_tangent(code: Code, layer: Layer, at: Places, into: Into) -> None:
    """dx_dot = dy W_dot^T + dy_dot W^T, and then dW_dot = dy_dot^T x + dy^T x_dot, db_dot = sum of dy_dot."""
    if at.inner:
        input_tangent(code, layer, at, at.dx_dot)
    for h in range(layer.h):
        shift = h * layer.x_r
        a, b = (at.dy_dot, 1, layer.oc, 0), (at.x.behind(shift), layer.x_n, 0)
        if at.inner:
            a, b = (*a[:3], at.dy), (*b[:2], at.x_dot.behind(shift))
        _gradient(code, layer, a, b, into, h, PAIR if at.inner else 0)


def input_tangent(code: Code, layer: Layer, at: Places, to: Operand, flags: int = 0) -> None:
    """to = dy W_dot^T + dy_dot W^T; with flags times the sign, or added; 0 but where the mask is positive."""
    line, o = layer.w * layer.cp, layer.oc
    for h in range(layer.h):
        b = at.weight_dot.behind(h * line), layer.h * line, at.weight.behind(h * line)
        a, c = (at.dy, o, 1, at.dy_dot), (to.behind(h * layer.x_r), layer.x_n)
        mask = at_row(at.mask, layer, h)
        multiply(code, (layer.n, line, 2, o), a, b, c, flags=flags | BY_ROWS | PAIR, mask=mask)


def weight_gradient(code: Code, layer: Layer, at: Places, into: Into) -> None:
    """dW = dy^T x and db = sum over samples of dy."""
    for h in range(layer.h):
        b = at.x.behind(h * layer.x_r), layer.x_n, 0
        _gradient(code, layer, (at.dy, 1, layer.oc, 0), b, into, h, 0)


def _gradient(
    code: Code,
    layer: Layer,
    a: tuple[Operand, int, int, int],
    b: tuple[Operand, int, int],
    into: Into,
    h: int,
    flags: int,
) -> None:
    """Image row h of the weight's gradient, and with the first the bias's."""
    line, o = layer.w * layer.cp, layer.oc
    c = into.weight.behind(h * line), layer.h * line
    d = into.base.behind(h * line) if into.base else NONE
    bias, pair = into.bias if h == 0 else NONE, 2 if flags & PAIR else 1
    multiply(code, (o, line, pair, layer.n), a, b, c, d, flags=flags | into.flags | SUMS_OF_A, sums=bias)


@inlined
def run_dots(ws, code, l, now, first, last):
    """DOTS, of samples first .. last."""
    it = one(DOTS, code, l)
    x, x_dot = place(now, it.x), place(now, it.x_dot)
    y = place(now, it.y)
    shift, pair = first * it.x_n, it.x_dot > 0
    weight, bias = place(now, it.weight), place(now, it.bias)
    weight_dot = place(now, it.weight_dot)
    _dots(ws, it, last - first, x + shift, weight, bias, y + first * it.y_n, x_dot + shift, weight_dot, pair)


@kernel
def _dots(ws, it, n, x, w, bias, y, x_dot, w_dot, pair):
    """y = x W + bias, and + x_dot W_dot where there is a pair, of n samples."""
    width, line = VECTOR_BYTES // ws.itemsize, it.w * it.cp
    o, size = it.oc, it.h * line
    xn, xr = it.x_n, it.x_r
    zero = splat(ws.dtype.type(0.0))
    i = 0
    while i < n:
        wide = i + GROUP <= n
        for j in range(o):
            s0, s1 = zero, zero
            s2, s3 = zero, zero
            for second in range(2 if pair else 1):
                for h in range(it.h):
                    p, row = i * xn + h * xr, j * size + h * line
                    p, row = (x_dot + p, w_dot + row) if second else (x + p, w + row)
                    if wide:
                        for q in range(0, line, width):
                            b = load(ws, row + q)
                            s0 = s0 + load(ws, p + q) * b
                            s1 = s1 + load(ws, p + xn + q) * b
                            s2 = s2 + load(ws, p + 2 * xn + q) * b
                            s3 = s3 + load(ws, p + 3 * xn + q) * b
                    else:
                        for q in range(0, line, width):
                            s0 = s0 + load(ws, p + q) * load(ws, row + q)
            to, b_j = y + i * o + j, ws[bias + j]
            ws[to] = b_j + total(s0)
            if wide:
                ws[to + o] = b_j + total(s1)
                ws[to + 2 * o] = b_j + total(s2)
                ws[to + 3 * o] = b_j + total(s3)
        i += GROUP if wide else 1
