"""Generates the register tiles of the matrix product: explicit LLVM vectors, written once for every tile size.

A tile of `rows` x `vectors` accumulators stays in registers while two nested loops run over K1 and K:

    C[i, j] = max(D[i, j] + alpha * sum_{k1 < K1} sum_{k < K} A[i ars + k acs + k1 a1] * B[k ldb + k1 b1 + j], low)

where M[i, j] > 0, else 0. D with row stride 0 is a bias, D = C accumulates, low = 0 is a ReLU, and M the value whose
ReLU a delta or a tangent passes; the second K level makes a convolution over a bordered image one product, and a sum of
two products one. Row pointers are kept in groups of four made opaque by an empty inline assembly, or LLVM turns their
addresses into one serial chain of additions.
"""

from __future__ import annotations

from typing import Any

from fastmeta_kernels.cpu.machine.compiler import ir
from fastmeta_kernels.cpu.machine.vector import (
    BYTES,
    INT64,
    SCALAR,
    VECTOR_BYTES,
    fma_ir,
    load_ir,
    splat_ir,
    store_ir,
    vector_ir,
)

# Tallest tile by number of vectors: what fits into the registers (32 with AVX-512, 16 with AVX2 and SSE).
TALLEST = {64: {3: 9, 2: 14, 1: 14}, 32: {3: 4, 2: 6, 1: 6}, 16: {3: 4, 2: 6, 1: 6}}[VECTOR_BYTES]
LATENCY = 4  # cycles, about: fewer accumulators leave the multiplier idle
OVERHEAD = 4  # of a tile, in the same unit
GROUP = 4
POINTERS = "abcdm"
ARGUMENTS = ("K1", "K", "a", "ars", "acs", "a1", "b", "ldb", "b1", "c", "ldc", "d", "ldd", "m", "ldm")


def heights(vectors: int, tallest: int, latency: int = LATENCY, overhead: int = OVERHEAD) -> list[int]:
    """The height of the next tile for 0, 1, ... rows left, at the least cost; further on the tallest is right."""
    cost, best = [0.0], [0]
    for rows in range(1, 4 * tallest + 1):
        choices = [(max(h * vectors, latency) + overhead + cost[rows - h], h) for h in range(1, min(rows, tallest) + 1)]
        least, height = min(choices, key=lambda choice: (choice[0], -choice[1]))
        cost.append(least)
        best.append(height)
    return best


def tile(module: ir.Module, lane: Any, rows: int, vectors: int) -> ir.Function:
    """The tile as a function of the module: pointers a, b, c, d, m; the strides and counts of ARGUMENTS; alpha, low."""
    scalar, pointer = SCALAR[lane], SCALAR[lane].as_pointer()
    kinds = [pointer if name in POINTERS else INT64 for name in ARGUMENTS]
    form = ir.FunctionType(ir.VoidType(), [*kinds, scalar, scalar])
    function = ir.Function(module, form, f"tile_{rows}x{vectors}")
    function.linkage = "internal"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    K1, K, a, ars, acs, a1, b, ldb, b1, c, ldc, d, ldd, m, ldm, alpha, low = function.args
    vector, width = vector_ir(lane), VECTOR_BYTES // BYTES[lane]
    zero = ir.Constant(vector, None)
    integer = lambda n: ir.Constant(INT64, n)  # noqa: E731

    # one pointer a group of rows, opaque; offsets within a group
    groups = [a] + [opaque(builder, builder.gep(a, [builder.mul(ars, integer(i))])) for i in range(GROUP, rows, GROUP)]
    within = [integer(0), ars, builder.mul(ars, integer(2)), opaque(builder, builder.mul(ars, integer(3)))]

    entry = builder.block
    names = ("outer", "outer_body", "inner", "inner_body", "outer_end", "done")
    outer, outer_body, inner, inner_body, outer_end, done = map(builder.append_basic_block, names)
    builder.branch(outer)

    def start(values: list[Any], origin: Any) -> list[Any]:
        phis = [builder.phi(value.type) for value in values]
        for phi, value in zip(phis, values, strict=True):
            phi.add_incoming(value, origin)
        return phis

    def repeat(phis: list[Any], values: list[Any], origin: Any) -> None:
        for phi, value in zip(phis, values, strict=True):
            phi.add_incoming(value, origin)

    # loop state: counter, B pointer, A group pointers, accumulators
    n = len(groups)
    builder.position_at_end(outer)
    state1 = start([integer(0), b, *groups, *[zero] * (rows * vectors)], entry)
    builder.cbranch(builder.icmp_signed("<", state1[0], K1), outer_body, done)
    builder.position_at_end(outer_body)
    builder.branch(inner)

    builder.position_at_end(inner)
    state = start([integer(0), *state1[1:]], outer_body)
    builder.cbranch(builder.icmp_signed("<", state[0], K), inner_body, outer_end)

    builder.position_at_end(inner_body)
    count, row_b = state[0], state[1]
    pointers, sums = state[2 : 2 + n], state[2 + n :]
    b_vectors = [load_ir(builder, lane, builder.gep(row_b, [integer(j * width)])) for j in range(vectors)]
    added = []
    for i in range(rows):
        value = builder.load(builder.gep(pointers[i // GROUP], [within[i % GROUP]]))
        a_vector = splat_ir(builder, lane, value)
        added += [fma_ir(builder, lane, a_vector, b_vectors[j], sums[i * vectors + j]) for j in range(vectors)]
    advanced = [builder.gep(p, [acs]) for p in pointers]
    repeat(state, [builder.add(count, integer(1)), builder.gep(row_b, [ldb]), *advanced, *added], inner_body)
    builder.branch(inner)

    builder.position_at_end(outer_end)
    advanced = [builder.gep(p, [a1]) for p in state1[2 : 2 + n]]
    repeat(
        state1,
        [builder.add(state1[0], integer(1)), builder.gep(state1[1], [b1]), *advanced, *state[2 + n :]],
        outer_end,
    )
    builder.branch(outer)

    builder.position_at_end(done)
    alphas, lows = splat_ir(builder, lane, alpha), splat_ir(builder, lane, low)
    for i in range(rows):
        for j in range(vectors):
            at = lambda base, stride: builder.gep(  # noqa: E731
                base,
                [builder.add(builder.mul(stride, integer(i)), integer(j * width))],  # noqa: B023
            )
            value = fma_ir(builder, lane, state1[2 + n + i * vectors + j], alphas, load_ir(builder, lane, at(d, ldd)))
            value = builder.select(builder.fcmp_ordered(">", lows, value), lows, value)  # NaN stays
            passes = builder.fcmp_unordered(">", load_ir(builder, lane, at(m, ldm)), zero)
            store_ir(builder, lane, builder.select(passes, value, zero), at(c, ldc))
    builder.ret_void()
    return function


def opaque(builder: Any, value: Any) -> Any:
    """A value that LLVM knows nothing of."""
    form = ir.FunctionType(value.type, [value.type])
    return builder.call(ir.InlineAsm(form, "", "=r,0", side_effect=False), [value])
