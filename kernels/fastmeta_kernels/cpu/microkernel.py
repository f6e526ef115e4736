"""Generates the register tiles of the matrix product: explicit LLVM vectors, written once for every tile size.

A tile of `rows` x `vectors` accumulators stays in registers while two nested loops run over K1 and K:

    C[i, j] = max(D[i, j] + alpha * sum_{k1 < K1} sum_{k < K} A[i ars + k acs + k1 a1] * B[k ldb + k1 b1 + j], low)

D with row stride 0 is a bias, D = C accumulates, low = 0 is a ReLU; the second K level makes a convolution over a
bordered image one product. All operands are offsets into one workspace. Row pointers are kept in groups of four
made opaque by an empty inline assembly, or LLVM turns their addresses into one serial chain of additions.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastmeta_kernels.cpu.vector import (
    BYTES,
    INT64,
    VECTOR_BYTES,
    data_pointer,
    fma_ir,
    load_ir,
    splat_ir,
    store_ir,
    vector_ir,
)

# Tile heights by number of vectors: what fits into the registers (32 with AVX-512 and NEON, 16 with AVX2 and SSE).
_TILES: dict[int, dict[int, tuple[int, ...]]] = {
    64: {2: (14, 7, 5, 4, 2, 1), 1: (14, 7, 4, 2, 1)},
    32: {2: (6, 4, 2, 1), 1: (6, 4, 2, 1)},
    16: {2: (6, 4, 2, 1), 1: (6, 4, 2, 1)},
}
TILES = _TILES[VECTOR_BYTES]
GROUP = 4


def tile(rows: int, vectors: int) -> Any:
    """The intrinsic f(ws, K1, K, a, ars, acs, a1, b, ldb, b1, c, ldc, d, ldd, alpha, low) for one tile size."""

    @intrinsic
    def product(
        context: Any, ws: Any, K1: Any, K: Any, a: Any, ars: Any, acs: Any, a1: Any, b: Any, ldb: Any, b1: Any,
        c: Any, ldc: Any, d: Any, ldd: Any, alpha: Any, low: Any,
    ) -> Any:  # fmt: skip
        lane = ws.dtype
        signature = types.void(ws, *[types.int64] * 13, lane, lane)
        return signature, lambda context, builder, signature, args: _emit(
            context, builder, signature, args, rows, vectors
        )

    return product


def _emit(context: Any, builder: Any, signature: Any, args: Any, rows: int, vectors: int) -> Any:
    lane = signature.args[0].dtype
    vector = vector_ir(lane)
    width = VECTOR_BYTES // BYTES[lane]
    zero = ir.Constant(vector, None)
    _, K1, K, a, ars, acs, a1, b, ldb, b1, c, ldc, d, ldd, alpha, low = args
    integer = lambda n: ir.Constant(INT64, n)  # noqa: E731
    pointer = lambda offset: data_pointer(context, builder, signature.args[0], args[0], offset)  # noqa: E731
    pa, pb, pc, pd = pointer(a), pointer(b), pointer(c), pointer(d)

    # one pointer a group of rows, opaque; offsets within a group
    groups = [pa] + [
        _opaque(builder, builder.gep(pa, [builder.mul(ars, integer(i))])) for i in range(GROUP, rows, GROUP)
    ]
    within = [integer(0), ars, builder.mul(ars, integer(2)), _opaque(builder, builder.mul(ars, integer(3)))]

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
    state1 = start([integer(0), pb, *groups, *[zero] * (rows * vectors)], entry)
    builder.cbranch(builder.icmp_signed("<", state1[0], K1), outer_body, done)
    builder.position_at_end(outer_body)
    builder.branch(inner)

    builder.position_at_end(inner)
    state = start([integer(0), *state1[1:]], outer_body)
    builder.cbranch(builder.icmp_signed("<", state[0], K), inner_body, outer_end)

    builder.position_at_end(inner_body)
    count, row_b, pointers, sums = state[0], state[1], state[2 : 2 + n], state[2 + n :]
    b_vectors = [load_ir(builder, lane, builder.gep(row_b, [integer(j * width)])) for j in range(vectors)]
    added = []
    for i in range(rows):
        scalar = builder.load(builder.gep(pointers[i // GROUP], [within[i % GROUP]]))
        a_vector = splat_ir(builder, lane, scalar)
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
            base = load_ir(builder, lane, at(pd, ldd))
            value = fma_ir(builder, lane, state1[2 + n + i * vectors + j], alphas, base)
            value = builder.select(builder.fcmp_unordered(">", value, lows), value, lows)
            store_ir(builder, lane, value, at(pc, ldc))
    return context.get_dummy_value()


def _opaque(builder: Any, value: Any) -> Any:
    form = ir.FunctionType(value.type, [value.type])
    return builder.call(ir.InlineAsm(form, "", "=r,0", side_effect=False), [value])
