"""The last linear layer where it has few outputs: y = x W + b with W kept transposed, (O, H, W, CP), and y dense.

Its outputs are dot products of whole vectors, its other products run along the inputs: nothing is padded to a vector of
outputs and nothing is transposed. The names and arguments are those of `linear`.
"""

from __future__ import annotations

from fastmeta_kernels.cpu._jit import kernel
from fastmeta_kernels.cpu.instruction import ARGUMENTS, DOTS, NARROW_BIAS, SAMPLES, SERIAL, Code
from fastmeta_kernels.cpu.linear import Row
from fastmeta_kernels.cpu.plan import CP, OC, X_N, X_R, H, N, W
from fastmeta_kernels.cpu.products import ADD, BY_ROWS, PAIR, SIGNED, multiply
from fastmeta_kernels.cpu.vector import VECTOR_BYTES, load, splat, total

GROUP = 4  # samples that share what is read of W


def forward(code: Code, row: Row, x: int, w: int, bias: int, y: int, relu: bool = False, add: bool = False) -> None:
    """y = x W + bias, or y += x W."""
    code.add(DOTS, SAMPLES, x, w, bias, y, add, row=row)


def forward_tangent(code: Code, row: Row, x: int, x_dot: int, w: int, w_dot: int, bias_dot: int, y_dot: int) -> None:
    """y_dot = x W_dot + x_dot W + bias_dot."""
    forward(code, row, x, w_dot, bias_dot, y_dot)
    forward(code, row, x_dot, w, 0, y_dot, add=True)


def transpose_weight(code: Code, row: Row, w: int, t: int) -> None:
    """W is kept so."""


def backward(code: Code, row: Row, dy: int, w: int, dx: int) -> None:
    """dx = dy W^T."""
    line, o = row[W] * row[CP], row[OC]
    for h in range(row[H]):
        b, c = (w + 8 * h * line, row[H] * line, 0), (dx + 8 * h * row[X_R], row[X_N])
        multiply(code, (row[N], line, 1, o), (dy, o, 1, 0), b, c, flags=BY_ROWS)


def backward_tangent(
    code: Code, row: Row, dy: int, dy_dot: int, w: int, w_dot: int, dx_dot: int, flags: int = 0
) -> None:
    """dx_dot = dy W_dot^T + dy_dot W^T; with flags times the sign, or added."""
    line, o = row[W] * row[CP], row[OC]
    for h in range(row[H]):
        shift = 8 * h * line
        b, c = (w_dot + shift, row[H] * line, w + shift), (dx_dot + 8 * h * row[X_R], row[X_N])
        multiply(code, (row[N], line, 2, o), (dy, o, 1, dy_dot), b, c, flags=flags | BY_ROWS | PAIR)


def backward_weight(code: Code, row: Row, x: int, dy: int, out: int, add: bool = False) -> None:
    """out = dy^T x, or out += sign * dy^T x."""
    line, o = row[W] * row[CP], row[OC]
    for h in range(row[H]):
        b, c = (x + 8 * h * row[X_R], row[X_N], 0), (out + 8 * h * line, row[H] * line)
        multiply(code, (o, line, 1, row[N]), (dy, 1, o, 0), b, c, flags=(ADD | SIGNED) if add else 0)


def backward_weight_tangent(
    code: Code, row: Row, x: int, x_dot: int, dy: int, dy_dot: int, out: int, add: bool
) -> None:
    """out = dy_dot^T x + dy^T x_dot, or out += sign * (...)."""
    line, o = row[W] * row[CP], row[OC]
    for h in range(row[H]):
        shift = 8 * h * row[X_R]
        a, b, c = (dy_dot, 1, o, dy), (x + shift, row[X_N], x_dot + shift), (out + 8 * h * line, row[H] * line)
        multiply(code, (o, line, 2, row[N]), a, b, c, flags=PAIR | ((ADD | SIGNED) if add else 0))


def backward_bias(code: Code, row: Row, dy: int, out: int, add: bool = False) -> None:
    """out = sum over samples of dy, or out += sign * (...)."""
    code.add(NARROW_BIAS, SERIAL, dy, out, add, row=row)


@kernel
def dots(ws, code, l, n, x, w, bias, y):
    """y = x W + bias, or y += x W, of n samples."""
    width, line, add = VECTOR_BYTES // ws.itemsize, code[l, W] * code[l, CP], code[l, ARGUMENTS + 4]
    o, size, xn, xr = code[l, OC], code[l, H] * line, code[l, X_N], code[l, X_R]
    zero = splat(ws.dtype.type(0.0))
    i = 0
    while i < n:
        wide = i + GROUP <= n
        for j in range(o):
            s0, s1, s2, s3 = zero, zero, zero, zero
            for h in range(code[l, H]):
                p, row = x + i * xn + h * xr, w + j * size + h * line
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
            to = y + i * o + j
            d, step = (to, o) if add else (bias + j, 0)
            ws[to] = ws[d] + total(s0)
            if wide:
                ws[to + o] = ws[d + step] + total(s1)
                ws[to + 2 * o] = ws[d + 2 * step] + total(s2)
                ws[to + 3 * o] = ws[d + 3 * step] + total(s3)
        i += GROUP if wide else 1


@kernel
def bias_gradient(ws, code, l, n, dy, out, sign):
    """out = sum over samples of dy, or out += sign * (...)."""
    o, add = code[l, OC], code[l, ARGUMENTS + 2]
    for j in range(o):
        s = ws.dtype.type(0.0)
        for i in range(n):
            s += ws[dy + i * o + j]
        ws[out + j] = ws[out + j] + sign * s if add else s
