"""y = x W + b as instructions. An image is flattened as it lies: W is (H, W, CP, OCP).

A tangent of a product is two products of one shape, summed by one whose outer level K1 = 2 steps from the first pair of
operands to the second.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.cpu.layers.products import ADD, BY_ROWS, PAIR, Into, multiply
from fastmeta_kernels.cpu.layout.instruction import BIAS, CHANNELS, OWN, TRANSPOSE, Code
from fastmeta_kernels.cpu.layout.network import CP, OC, OCP, X_N, X_R, Y_N, C, H, N, W

Row = NDArray[np.int64]


def pieces(row: Row) -> tuple[int, int]:
    """Pieces in which one sample's input lies, and scalars of a piece: without padding where it can be left out."""
    line = int(row[W] * row[CP])
    if row[H] * row[W] == 1:
        return 1, int(row[C])
    return (1, int(row[H]) * line) if row[X_R] == line else (int(row[H]), line)


def forward(
    code: Code, row: Row, x: int, w: int, bias: int, y: int, relu: bool = False, add: bool = False, mask: int = 0
) -> None:
    """y = x W + bias, or y += x W; 0 but where the mask is positive."""
    (count, depth), o = pieces(row), row[OCP]
    a, b = (x, row[X_N], 1, row[X_R]), (w, o, depth * o)
    multiply(code, (row[N], o, count, depth), a, b, (y, row[Y_N]), bias, relu, BY_ROWS | (ADD if add else 0), mask=mask)


def forward_tangent(
    code: Code, row: Row, x: int, x_dot: int, w: int, w_dot: int, bias_dot: int, y_dot: int, mask: int = 0
) -> None:
    """y_dot = x W_dot + x_dot W + bias_dot; 0 but where the mask is positive."""
    count, depth = pieces(row)
    if count > 1:
        forward(code, row, x, w_dot, bias_dot, y_dot)
        forward(code, row, x_dot, w, 0, y_dot, add=True, mask=mask)
        return
    a, b = (x, row[X_N], 1, x_dot), (w_dot, row[OCP], w)
    multiply(code, (row[N], row[OCP], 2, depth), a, b, (y_dot, row[Y_N]), bias_dot, flags=BY_ROWS | PAIR, mask=mask)


def transpose_weight(code: Code, row: Row, w: int, t: int) -> None:
    """t[h, o, (w c)] = W[h, (w c), o]."""
    line, o = row[W] * row[CP], row[OCP]
    for h in range(row[H]):
        block = 8 * h * line * o
        code.add(TRANSPOSE, OWN, w + block, o, t + block, line, line, o)


def backward(code: Code, row: Row, dy: int, t: int, dx: int, mask: int = 0) -> None:
    """dx = dy W^T, with t the transposed weight; 0 but where the mask is positive."""
    line, o = row[W] * row[CP], row[OCP]
    for h in range(row[H]):
        b, c = (t + 8 * h * line * o, line, 0), (dx + 8 * h * row[X_R], row[X_N])
        multiply(code, (row[N], line, 1, row[OC]), (dy, row[Y_N], 1, 0), b, c, flags=BY_ROWS, mask=at_row(mask, row, h))


def backward_tangent(
    code: Code, row: Row, dy: int, dy_dot: int, t: int, t_dot: int, dx_dot: int, flags: int = 0, mask: int = 0
) -> None:
    """dx_dot = dy W_dot^T + dy_dot W^T; with flags times the sign, or added; 0 but where the mask is positive."""
    line, o = row[W] * row[CP], row[OCP]
    for h in range(row[H]):
        block = 8 * h * line * o
        b, c = (t_dot + block, line, t + block), (dx_dot + 8 * h * row[X_R], row[X_N])
        a, here = (dy, row[Y_N], 1, dy_dot), at_row(mask, row, h)
        multiply(code, (row[N], line, 2, row[OC]), a, b, c, flags=flags | BY_ROWS | PAIR, mask=here)


def backward_weight(code: Code, row: Row, x: int, dy: int, into: Into) -> None:
    """dW = x^T dy and db = sum over samples of dy."""
    (count, depth), o = pieces(row), row[OCP]
    for h in range(count):
        a = x + 8 * h * row[X_R], 1, row[X_N], 0
        _gradient(code, (depth, o, 1, row[N]), a, (dy, row[Y_N], 0), into, h, BY_ROWS)


def backward_weight_tangent(code: Code, row: Row, x: int, x_dot: int, dy: int, dy_dot: int, into: Into) -> None:
    """dW_dot = x^T dy_dot + x_dot^T dy and db_dot = sum over samples of dy_dot."""
    (count, depth), o = pieces(row), row[OCP]
    for h in range(count):
        shift = 8 * h * row[X_R]
        a, b = (x + shift, 1, row[X_N], x_dot + shift), (dy_dot, row[Y_N], dy)
        _gradient(code, (depth, o, 2, row[N]), a, b, into, h, BY_ROWS | PAIR)


def _gradient(
    code: Code,
    shape: tuple[int, int, int, int],
    a: tuple[int, int, int, int],
    b: tuple[int, int, int],
    into: Into,
    h: int,
    flags: int,
) -> None:
    """Piece h of a weight's gradient, and with the first the bias's."""
    shift = 8 * h * shape[0] * shape[1]
    d = into.base + shift if into.base else 0
    bias = into.bias if h == 0 else 0
    multiply(code, shape, a, b, (into.weight + shift, shape[1]), d, flags=flags | into.flags, sums=bias)


def at_row(mask: int, row: Row, h: int) -> int:
    """A mask, 0 where there is none, from image row h on."""
    return mask + 8 * h * int(row[X_R]) if mask else 0


def backward_bias(code: Code, row: Row, dy: int, out: int, add: bool = False) -> None:
    """out = sum over samples and pixels of dy, or out += sign * (...), of a convolution."""
    code.add(BIAS, CHANNELS, dy, out, add, row=row)
