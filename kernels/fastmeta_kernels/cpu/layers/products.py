"""The instruction PRODUCT: one matrix product, or a grid of I x J of them whose operands lie at even distances.

Every linear and convolution layer, forward, backward and tangent, is one or two of these.
"""

from __future__ import annotations

from typing import NamedTuple

from fastmeta_kernels.cpu.layout.instruction import OWN, PRODUCT, RATE_ROW, SIGN, Code, place, share
from fastmeta_kernels.cpu.layout.job import RATES, STREAMS, array_at
from fastmeta_kernels.cpu.machine.jit import inlined
from fastmeta_kernels.cpu.machine.product import masked_product
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES, load, splat, store

# Columns behind OP and SPLIT: C (m, n) = D + A B as in `product`, then the grid's counts and distances, the mask, and
# where sums over K go: those of B, a bias beside the weight C.
(
    M, COLUMNS, K1, K, A, ARS, ACS, A1, B, LDB, B1, C, LDC, D, RELU, FLAGS,
    I, A_I, B_I, C_I, J, A_J, B_J, C_J, MASK, SUMS,
) = range(2, 28)  # fmt: skip

# D = C; times the schedule's sign; a sum over I; K1 steps from A, B to the operands A1, B1; threads share rows;
# times the rate of the schedule's row; D has the row stride of C; sums over K are those of A; a sum over J.
ADD, SIGNED, SUM, PAIR, BY_ROWS, RATED, MATRIX, SUMS_OF_A, SUM_J = 1, 2, 4, 8, 16, 32, 64, 128, 256
ADDED = ADD | SIGNED  # C += sign * A B
STEP = MATRIX | SIGNED | RATED  # C = D + sign * rate * A B


class Into(NamedTuple):
    """Where the gradient of a weight and its bias (0: none) goes, how, and to what it is added with MATRIX."""

    weight: int
    bias: int = 0
    flags: int = 0
    base: int = 0


def multiply(
    code: Code,
    shape: tuple[int, int, int, int],
    a: tuple[int, int, int, int],
    b: tuple[int, int, int],
    c: tuple[int, int],
    d: int = 0,
    relu: bool = False,
    flags: int = 0,
    i: tuple[int, int, int, int] = (1, 0, 0, 0),
    j: tuple[int, int, int, int] = (1, 0, 0, 0),
    mask: int = 0,
    sums: int = 0,
) -> None:
    """Emit a product of `shape` (m, n, K1, K): a = (A, ars, acs, a1), b = (B, ldb, b1), c = (C, ldc), D a row to add.

    i, j: count, and the distances in A, B and C. mask, sums: operands, or 0.
    """
    code.add(PRODUCT, OWN)
    code.rows[-1][2:28] = *shape, *a, *b, *c, d, relu, flags, *i, *j, mask, sums


@inlined
def column_sums(ws, b, ldb, count, first, last, to, d, alpha):
    """to[j] = d[j] + alpha sum_k B[k, j] for vectors first .. last; d = -1: sum_k B[k, j]."""
    width = VECTOR_BYTES // ws.itemsize
    for j in range(first * width, last * width, width):
        s = splat(ws.dtype.type(0.0))
        for k in range(count):
            s = s + load(ws, b + k * ldb + j)
        store(ws, to + j, load(ws, d + j) + splat(alpha) * s if d >= 0 else s)


@inlined
def row_sums(ws, a, ars, acs, count, rows, to, d, alpha):
    """to[i] = d[i] + alpha sum_k A[i, k]; d = -1: sum_k A[i, k]."""
    for i in range(rows):
        s = ws.dtype.type(0.0)
        for k in range(count):
            s += ws[a + i * ars + k * acs]
        ws[to + i] = ws[d + i] + alpha * s if d >= 0 else s


@inlined
def run_product(ws, job, code, l, schedule, r, part, parts):
    """One part of an instruction PRODUCT."""
    flags = code[l, FLAGS]
    a, b, c = place(schedule, r, code[l, A]), place(schedule, r, code[l, B]), place(schedule, r, code[l, C])
    a1, b1, first_d, relu = code[l, A1], code[l, B1], place(schedule, r, code[l, D]), code[l, RELU] != 0
    if flags & PAIR:
        a1, b1 = place(schedule, r, a1) - a, place(schedule, r, b1) - b
    add, alpha = flags & ADD != 0, ws.dtype.type(schedule[r, SIGN] if flags & SIGNED else 1)
    if flags & RATED:
        alpha *= array_at(ws, job[STREAMS + 3 * RATES], schedule[r, RATE_ROW], 1)[0]
    mask = place(schedule, r, code[l, MASK]) - c if code[l, MASK] > 0 else 0
    if code[l, SUMS] > 0:
        to = place(schedule, r, code[l, SUMS])
        d = to if add else first_d - c + to if flags & MATRIX else -1
        if flags & SUMS_OF_A == 0:
            first, last = share(code[l, COLUMNS] * ws.itemsize // VECTOR_BYTES, part, parts)
            column_sums(ws, b, code[l, LDB], code[l, K], first, last, to, d, alpha)
        elif part == 0:
            row_sums(ws, a, code[l, ARS], code[l, ACS], code[l, K], code[l, M], to, d, alpha)
    m, n, ars, ldc, inner, outer = code[l, M], code[l, COLUMNS], code[l, ARS], code[l, LDC], code[l, I], code[l, J]
    begin, end = 0, inner * outer
    if flags & BY_ROWS:
        low, high = share(m, part, parts)
        m, a, c = high - low, a + low * ars, c + low * ldc
        first_d += low * ldc if flags & MATRIX else 0
    else:
        begin, end = share(end, part, parts)
    x, y = (begin % inner, begin // inner) if begin > 0 else (0, 0)
    for _ in range(begin, end):
        to = c + x * code[l, C_I] + y * code[l, C_J]
        more = add or (flags & SUM != 0 and x > 0) or (flags & SUM_J != 0 and y > 0)
        step = ldc if more or flags & MATRIX else 0
        masked_product(
            ws, m, n, code[l, K1], code[l, K],
            a + x * code[l, A_I] + y * code[l, A_J], ars, code[l, ACS], a1,
            b + x * code[l, B_I] + y * code[l, B_J], code[l, LDB], b1,
            to, ldc, to if more else first_d, step, alpha, relu, to + mask if code[l, MASK] > 0 else -1,
        )  # fmt: skip
        x += 1
        if x == inner:
            x, y = 0, y + 1
