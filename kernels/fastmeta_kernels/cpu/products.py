"""The instruction PRODUCT: one matrix product, or a grid of I x J of them whose operands lie at even distances.

Every linear and convolution layer, forward, backward and tangent, is one or two of these.
"""

from __future__ import annotations

from fastmeta_kernels.cpu._jit import inlined
from fastmeta_kernels.cpu.instruction import OWN, PRODUCT, SIGN, Code, place, share
from fastmeta_kernels.cpu.product import product

# Columns behind OP and SPLIT: C (m, n) = D + A B as in `product`, then the grid's counts and distances.
(
    M, COLUMNS, K1, K, A, ARS, ACS, A1, B, LDB, B1, C, LDC, D, RELU, FLAGS,
    I, A_I, B_I, C_I, J, A_J, B_J, C_J,
) = range(2, 26)  # fmt: skip

# D = C; times the schedule's sign; a sum over I; K1 steps from A, B to the operands A1, B1; threads share rows; a sum
# over J.
ADD, SIGNED, SUM, PAIR, BY_ROWS, SUM_J = 1, 2, 4, 8, 16, 32


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
) -> None:
    """Emit a product of `shape` (m, n, K1, K): a = (A, ars, acs, a1), b = (B, ldb, b1), c = (C, ldc), D a row to add.

    i, j: count, and the distances in A, B and C.
    """
    code.add(PRODUCT, OWN)
    code.rows[-1][2:26] = *shape, *a, *b, *c, d, relu, flags, *i, *j


@inlined
def run_product(ws, code, l, schedule, r, part, parts):
    """One part of an instruction PRODUCT."""
    flags = code[l, FLAGS]
    a, b, c = place(schedule, r, code[l, A]), place(schedule, r, code[l, B]), place(schedule, r, code[l, C])
    a1, b1, first_d, relu = code[l, A1], code[l, B1], place(schedule, r, code[l, D]), code[l, RELU] != 0
    if flags & PAIR:
        a1, b1 = place(schedule, r, a1) - a, place(schedule, r, b1) - b
    add, alpha = flags & ADD != 0, ws.dtype.type(schedule[r, SIGN] if flags & SIGNED else 1)
    m, n, ars, ldc, inner, outer = code[l, M], code[l, COLUMNS], code[l, ARS], code[l, LDC], code[l, I], code[l, J]
    begin, end = 0, inner * outer
    if flags & BY_ROWS:
        low, high = share(m, part, parts)
        m, a, c = high - low, a + low * ars, c + low * ldc
    else:
        begin, end = share(end, part, parts)
    x, y = (begin % inner, begin // inner) if begin > 0 else (0, 0)
    for _ in range(begin, end):
        to = c + x * code[l, C_I] + y * code[l, C_J]
        more = add or (flags & SUM != 0 and x > 0) or (flags & SUM_J != 0 and y > 0)
        product(
            ws, m, n, code[l, K1], code[l, K],
            a + x * code[l, A_I] + y * code[l, A_J], ars, code[l, ACS], a1,
            b + x * code[l, B_I] + y * code[l, B_J], code[l, LDB], b1,
            to, ldc, to if more else first_d, ldc if more else 0, alpha, relu,
        )  # fmt: skip
        x += 1
        if x == inner:
            x, y = 0, y + 1
