"""The last linear layer where it has few outputs: y = x W + b with W kept transposed, (O, H, W, CP), and y dense.

Its outputs are dot products of whole vectors, its other products run along the inputs: nothing is padded to a vector of
outputs and nothing is transposed. The names and arguments are those of `linear`.
"""

from __future__ import annotations

from fastmeta_kernels.cpu.layers.linear import Row, at_row
from fastmeta_kernels.cpu.layers.products import BY_ROWS, PAIR, SUMS_OF_A, Into, multiply
from fastmeta_kernels.cpu.layout.instruction import ARGUMENTS, DOTS, SAMPLES, Code
from fastmeta_kernels.cpu.layout.network import CP, OC, X_N, X_R, H, N, W
from fastmeta_kernels.cpu.machine.jit import kernel
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES, load, splat, total

GROUP = 4  # samples that share what is read of W


def forward(
    code: Code, row: Row, x: int, w: int, bias: int, y: int, relu: bool = False, add: bool = False, mask: int = 0
) -> None:
    """y = x W + bias; a last layer has no ReLU."""
    code.add(DOTS, SAMPLES, x, w, bias, y, 0, 0, row=row)


def forward_tangent(
    code: Code, row: Row, x: int, x_dot: int, w: int, w_dot: int, bias_dot: int, y_dot: int, mask: int = 0
) -> None:
    """y_dot = x W_dot + x_dot W + bias_dot."""
    code.add(DOTS, SAMPLES, x, w_dot, bias_dot, y_dot, x_dot, w, row=row)


def transpose_weight(code: Code, row: Row, w: int, t: int) -> None:
    """W is kept so."""


def backward(code: Code, row: Row, dy: int, w: int, dx: int, mask: int = 0) -> None:
    """dx = dy W^T; 0 but where the mask is positive."""
    line, o = row[W] * row[CP], row[OC]
    for h in range(row[H]):
        b, c = (w + 8 * h * line, row[H] * line, 0), (dx + 8 * h * row[X_R], row[X_N])
        multiply(code, (row[N], line, 1, o), (dy, o, 1, 0), b, c, flags=BY_ROWS, mask=at_row(mask, row, h))


def backward_tangent(
    code: Code, row: Row, dy: int, dy_dot: int, w: int, w_dot: int, dx_dot: int, flags: int = 0, mask: int = 0
) -> None:
    """dx_dot = dy W_dot^T + dy_dot W^T; with flags times the sign, or added; 0 but where the mask is positive."""
    line, o = row[W] * row[CP], row[OC]
    for h in range(row[H]):
        shift, here = 8 * h * line, at_row(mask, row, h)
        b, c = (w_dot + shift, row[H] * line, w + shift), (dx_dot + 8 * h * row[X_R], row[X_N])
        multiply(code, (row[N], line, 2, o), (dy, o, 1, dy_dot), b, c, flags=flags | BY_ROWS | PAIR, mask=here)


def backward_weight(code: Code, row: Row, x: int, dy: int, into: Into) -> None:
    """dW = dy^T x and db = sum over samples of dy."""
    for h in range(row[H]):
        _gradient(code, row, (dy, 1, row[OC], 0), (x + 8 * h * row[X_R], row[X_N], 0), into, h)


def backward_weight_tangent(code: Code, row: Row, x: int, x_dot: int, dy: int, dy_dot: int, into: Into) -> None:
    """dW_dot = dy_dot^T x + dy^T x_dot and db_dot = sum over samples of dy_dot."""
    for h in range(row[H]):
        shift = 8 * h * row[X_R]
        _gradient(code, row, (dy_dot, 1, row[OC], dy), (x + shift, row[X_N], x_dot + shift), into, h, PAIR)


def _gradient(
    code: Code, row: Row, a: tuple[int, int, int, int], b: tuple[int, int, int], into: Into, h: int, flags: int = 0
) -> None:
    """Image row h of the weight's gradient, and with the first the bias's."""
    line, o = int(row[W] * row[CP]), row[OC]
    c, d = (into.weight + 8 * h * line, row[H] * line), into.base + 8 * h * line if into.base else 0
    bias, pair = into.bias if h == 0 else 0, 2 if flags & PAIR else 1
    multiply(code, (o, line, pair, row[N]), a, b, c, d, flags=flags | into.flags | SUMS_OF_A, sums=bias)


@kernel
def dots(ws, code, l, n, x, w, bias, y, x_dot, w_dot):
    """y = x W + bias, and + x_dot W_dot where there is one, of n samples."""
    width, line, pair = VECTOR_BYTES // ws.itemsize, code[l, W] * code[l, CP], code[l, ARGUMENTS + 4] > 0
    o, size, xn, xr = code[l, OC], code[l, H] * line, code[l, X_N], code[l, X_R]
    zero = splat(ws.dtype.type(0.0))
    i = 0
    while i < n:
        wide = i + GROUP <= n
        for j in range(o):
            s0, s1, s2, s3 = zero, zero, zero, zero
            for second in range(2 if pair else 1):
                for h in range(code[l, H]):
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
