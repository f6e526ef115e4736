"""y = x W + b as instructions. An image is flattened as it lies: W is (H, W, CP, OCP).

A tangent of a product is two products of one shape, summed by one whose outer level K1 = 2 steps from the first pair of
operands to the second.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.cpu.instruction import BIAS, CHANNELS, OWN, TRANSPOSE, Code
from fastmeta_kernels.cpu.plan import CP, OC, OCP, X_N, X_R, Y_N, C, H, N, W
from fastmeta_kernels.cpu.products import ADD, BY_ROWS, PAIR, SIGNED, multiply

Row = NDArray[np.int64]


def pieces(row: Row) -> tuple[int, int]:
    """Pieces in which one sample's input lies, and scalars of a piece: without padding where it can be left out."""
    line = int(row[W] * row[CP])
    if row[H] * row[W] == 1:
        return 1, int(row[C])
    return (1, int(row[H]) * line) if row[X_R] == line else (int(row[H]), line)


def forward(code: Code, row: Row, x: int, w: int, bias: int, y: int, relu: bool = False, add: bool = False) -> None:
    """y = x W + bias, or y += x W."""
    (count, depth), o = pieces(row), row[OCP]
    a, b = (x, row[X_N], 1, row[X_R]), (w, o, depth * o)
    multiply(code, (row[N], o, count, depth), a, b, (y, row[Y_N]), bias, relu, BY_ROWS | (ADD if add else 0))


def forward_tangent(code: Code, row: Row, x: int, x_dot: int, w: int, w_dot: int, bias_dot: int, y_dot: int) -> None:
    """y_dot = x W_dot + x_dot W + bias_dot."""
    count, depth = pieces(row)
    if count > 1:
        forward(code, row, x, w_dot, bias_dot, y_dot)
        forward(code, row, x_dot, w, 0, y_dot, add=True)
        return
    a, b = (x, row[X_N], 1, x_dot), (w_dot, row[OCP], w)
    multiply(code, (row[N], row[OCP], 2, depth), a, b, (y_dot, row[Y_N]), bias_dot, flags=BY_ROWS | PAIR)


def transpose_weight(code: Code, row: Row, w: int, t: int) -> None:
    """t[h, o, (w c)] = W[h, (w c), o]."""
    line, o = row[W] * row[CP], row[OCP]
    for h in range(row[H]):
        block = 8 * h * line * o
        code.add(TRANSPOSE, OWN, w + block, o, t + block, line, line, o)


def backward(code: Code, row: Row, dy: int, t: int, dx: int) -> None:
    """dx = dy W^T, with t the transposed weight."""
    line, o = row[W] * row[CP], row[OCP]
    for h in range(row[H]):
        b, c = (t + 8 * h * line * o, line, 0), (dx + 8 * h * row[X_R], row[X_N])
        multiply(code, (row[N], line, 1, row[OC]), (dy, row[Y_N], 1, 0), b, c, flags=BY_ROWS)


def backward_tangent(
    code: Code, row: Row, dy: int, dy_dot: int, t: int, t_dot: int, dx_dot: int, flags: int = 0
) -> None:
    """dx_dot = dy W_dot^T + dy_dot W^T; with flags times the sign, or added."""
    line, o = row[W] * row[CP], row[OCP]
    for h in range(row[H]):
        block = 8 * h * line * o
        b, c = (t_dot + block, line, t + block), (dx_dot + 8 * h * row[X_R], row[X_N])
        multiply(code, (row[N], line, 2, row[OC]), (dy, row[Y_N], 1, dy_dot), b, c, flags=flags | BY_ROWS | PAIR)


def backward_weight(code: Code, row: Row, x: int, dy: int, out: int, add: bool = False) -> None:
    """out = x^T dy, or out += sign * x^T dy."""
    (count, depth), o = pieces(row), row[OCP]
    for h in range(count):
        a, c = (x + 8 * h * row[X_R], 1, row[X_N], 0), (out + 8 * h * depth * o, o)
        flags = BY_ROWS | ((ADD | SIGNED) if add else 0)
        multiply(code, (depth, o, 1, row[N]), a, (dy, row[Y_N], 0), c, flags=flags)


def backward_weight_tangent(
    code: Code, row: Row, x: int, x_dot: int, dy: int, dy_dot: int, out: int, add: bool
) -> None:
    """out = x^T dy_dot + x_dot^T dy, or out += sign * (...)."""
    (count, depth), o = pieces(row), row[OCP]
    for h in range(count):
        shift = 8 * h * row[X_R]
        a, b, c = (x + shift, 1, row[X_N], x_dot + shift), (dy_dot, row[Y_N], dy), (out + 8 * h * depth * o, o)
        flags = BY_ROWS | PAIR | ((ADD | SIGNED) if add else 0)
        multiply(code, (depth, o, 2, row[N]), a, b, c, flags=flags)


def backward_bias(code: Code, row: Row, dy: int, out: int, add: bool = False) -> None:
    """out = sum over samples and pixels of dy, or out += sign * (...); for a convolution too."""
    code.add(BIAS, CHANNELS, dy, out, add, row=row)
