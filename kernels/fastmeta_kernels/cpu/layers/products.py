"""The instruction PRODUCT: one matrix product, or a grid of I x J of them whose operands lie at even distances.

Every linear and convolution layer, forward, backward and tangent, is one or two of these.
"""

from __future__ import annotations

from fastmeta_kernels.cpu.layout.instruction import NONE, OWN, PRODUCT, TRANSPOSE, Code, Operand, one, place, share
from fastmeta_kernels.cpu.layout.job import RATES, array_at
from fastmeta_kernels.cpu.layout.places import ADD, MATRIX, RATED, SIGNED
from fastmeta_kernels.cpu.machine.between_lanes import transpose
from fastmeta_kernels.cpu.machine.jit import inlined
from fastmeta_kernels.cpu.machine.product import masked_product
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES, load, splat, store

# Flags beside those of `places`: a sum over I; K1 steps from A, B to the operands A1, B1; threads share rows; sums over
# K are those of A, not B; a sum over J. With MATRIX D has the row stride of C.
SUM, PAIR, BY_ROWS, SUMS_OF_A, SUM_J = 4, 8, 16, 128, 256


def multiply(
    code: Code,
    shape: tuple[int, int, int, int],
    a: tuple[Operand, int, int, int],
    b: tuple[Operand, int, int],
    c: tuple[Operand, int],
    d: Operand = NONE,
    relu: bool = False,
    flags: int = 0,
    i: tuple[int, int, int, int] = (1, 0, 0, 0),
    j: tuple[int, int, int, int] = (1, 0, 0, 0),
    mask: Operand = NONE,
    sums: Operand = NONE,
    bcs: int = 1,
) -> None:
    """Emit a product of `shape` (m, n, K1, K): a = (A, ars, acs, a1), b = (B, ldb, b1), c = (C, ldc), D a row to add.

    i, j: count, and the distances in A, B and C. sums: where sums over K go. bcs: from column to column of B, which is
    1 but for tasks in lanes.
    """
    code.add(
        PRODUCT, OWN, d=d, relu=relu, flags=flags, mask=mask, sums=sums, bcs=bcs,
        **dict(zip(("m", "columns", "k1", "k"), shape, strict=True)),
        **dict(zip(("a", "ars", "acs", "a1"), a, strict=True)),
        **dict(zip(("b", "ldb", "b1"), b, strict=True)),
        **dict(zip(("c", "ldc"), c, strict=True)),
        **dict(zip(("i", "a_i", "b_i", "c_i"), i, strict=True)),
        **dict(zip(("j", "a_j", "b_j", "c_j"), j, strict=True)),
    )  # fmt: skip


def transposed(code: Code, source: Operand, ld: int, target: Operand, ldt: int, rows: int, columns: int) -> None:
    """Emit target = source^T, of a matrix (rows, columns) in whole vectors."""
    code.add(TRANSPOSE, OWN, source=source, ld=ld, target=target, ldt=ldt, rows=rows, columns=columns)


@inlined
def run_transpose(ws, code, l, now, part, parts):
    """One part of TRANSPOSE, by vectors of rows."""
    it, width = one(TRANSPOSE, code, l), VECTOR_BYTES // ws.itemsize
    source, target = place(now, it.source), place(now, it.target)
    first, last = share(it.rows // width, part, parts)
    for i in range(first * width, last * width, width):
        for j in range(0, it.columns, width):
            transpose(ws, source + i * it.ld + j, it.ld, ws, target + j * it.ldt + i, it.ldt)


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
def run_product(ws, job, code, l, now, part, parts):
    """One part of PRODUCT."""
    it = one(PRODUCT, code, l)
    flags, masked = it.flags, it.mask > 0
    a, b = place(now, it.a), place(now, it.b)
    c = place(now, it.c)
    a1, b1 = it.a1, it.b1
    first_d = place(now, it.d)
    if flags & PAIR:
        a1, b1 = place(now, a1) - a, place(now, b1) - b
    add, alpha = flags & ADD != 0, ws.dtype.type(now.sign if flags & SIGNED else 1)
    if flags & RATED:
        streams = job.streams
        alpha *= array_at(ws, streams[RATES, 0], now.rate_row, 1)[0]
    mask = place(now, it.mask) - c if masked else 0
    if it.sums > 0:
        to = place(now, it.sums)
        d = to if add else first_d - c + to if flags & MATRIX else -1
        if flags & SUMS_OF_A == 0:
            first, last = share(it.columns * ws.itemsize // VECTOR_BYTES, part, parts)
            column_sums(ws, b, it.ldb, it.k, first, last, to, d, alpha)
        elif part == 0:
            row_sums(ws, a, it.ars, it.acs, it.k, it.m, to, d, alpha)
    m = it.m
    begin, end = 0, it.i * it.j
    if flags & BY_ROWS:
        low, high = share(m, part, parts)
        m, a = high - low, a + low * it.ars
        c = c + low * it.ldc
        first_d += low * it.ldc if flags & MATRIX else 0
    else:
        begin, end = share(end, part, parts)
    x, y = (begin % it.i, begin // it.i) if begin > 0 else (0, 0)
    for _ in range(begin, end):
        to = c + x * it.c_i + y * it.c_j
        more = add or (flags & SUM != 0 and x > 0) or (flags & SUM_J != 0 and y > 0)
        step = it.ldc if more or flags & MATRIX else 0
        masked_product(
            ws, m, it.columns, it.k1, it.k,
            a + x * it.a_i + y * it.a_j, it.ars, it.acs, a1,
            b + x * it.b_i + y * it.b_j, it.ldb, b1,
            to, it.ldc, to if more else first_d, step, alpha, it.relu != 0, to + mask if masked else -1,
        )  # fmt: skip
        x += 1
        if x == it.i:
            x, y = 0, y + 1
