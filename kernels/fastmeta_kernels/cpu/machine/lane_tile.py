"""Generates the register tiles of a product whose every scalar is a machine vector, with one task in each lane.

    C[i ldc + j] = D[i ldd + j] + alpha * sum_{k1 < K1} sum_{k < K} A[i ars + k acs + k1 a1] * B[j bcs + k ldb + k1 b1]

A and B have two strides, so a transposed one is another pair of them, and nothing is padded. What is stored is C, its
positive part, or C where M is positive and else 0; M has the stride of C. Strides and counts are one struct for the
whole product.
"""

from __future__ import annotations

from typing import Any

from fastmeta_kernels.cpu.machine.compiler import ir
from fastmeta_kernels.cpu.machine.microkernel import GROUP, opaque
from fastmeta_kernels.cpu.machine.vector import (
    INT64,
    VECTOR_BYTES,
    fma_ir,
    load_ir,
    store_ir,
    vector_ir,
)

# Tallest tile by its number of columns: rows * columns + columns + 1 registers of 32, or of 16.
TALLEST = {64: {4: 6, 3: 8, 2: 12, 1: 14}, 32: {3: 4, 2: 6, 1: 10}, 16: {3: 4, 2: 6, 1: 10}}[VECTOR_BYTES]
LATENCY, OVERHEAD = 8, 3  # of a step over K and of a tile, in multiply-adds
FIELDS = ("K1", "K", "ars", "acs", "a1", "bcs", "ldb", "b1", "ldc", "ldd", "kind")
POINTERS = "abcdm"
PLAIN, RELU, MASKED = range(3)  # kinds


def values_of(builder: Any, fields: Any) -> dict[str, Any]:
    """The strides and counts of a struct."""
    return {name: builder.load(builder.gep(fields, [ir.Constant(INT64, i)])) for i, name in enumerate(FIELDS)}


def tile(
    builder: Any, lane: Any, rows: int, columns: int, at: dict[str, Any], fields: dict[str, Any], alpha: Any
) -> None:
    """Emit a tile: the pointers of POINTERS to where it begins, FIELDS as values, alpha in all lanes."""
    sums = _sums(builder, lane, rows, columns, at, fields)
    blocks = [builder.append_basic_block(name) for name in ("plain", "relu", "masked", "stored")]
    cases = builder.switch(fields["kind"], blocks[PLAIN])
    for kind in (RELU, MASKED):
        cases.add_case(ir.Constant(INT64, kind), blocks[kind])
    for kind in (PLAIN, RELU, MASKED):
        builder.position_at_end(blocks[kind])
        _store(builder, lane, kind, rows, sums, at, fields, alpha)
        builder.branch(blocks[-1])
    builder.position_at_end(blocks[-1])


def _sums(builder: Any, lane: Any, rows: int, columns: int, at: dict[str, Any], fields: dict[str, Any]) -> list[Any]:
    """rows x columns sums over K1 and K."""
    integer = lambda n: ir.Constant(INT64, n)  # noqa: E731

    def groups(base: Any, stride: Any, count: int) -> tuple[list[Any], list[Any]]:
        """An opaque pointer for each four, and the distances within a group."""
        starts = [base]
        starts += [
            opaque(builder, builder.gep(base, [builder.mul(stride, integer(g))])) for g in range(GROUP, count, GROUP)
        ]
        third = opaque(builder, builder.mul(stride, integer(3))) if count > 3 else integer(0)
        return starts, [integer(0), stride, builder.mul(stride, integer(2)), third]

    K1, K, acs, ldb, a1, b1 = (fields[name] for name in ("K1", "K", "acs", "ldb", "a1", "b1"))
    a_starts, a_within = groups(at["a"], fields["ars"], rows)
    b_starts, b_within = groups(at["b"], fields["bcs"], columns)
    na, n = len(a_starts), len(a_starts) + len(b_starts)
    zero = ir.Constant(vector_ir(lane), None)
    entry = builder.block
    outer, inner, outer_end, done = (builder.append_basic_block(x) for x in ("outer", "inner", "outer_end", "done"))
    builder.branch(outer)

    def begin(values: list[Any], origin: Any) -> list[Any]:
        phis = [builder.phi(value.type) for value in values]
        for phi, value in zip(phis, values, strict=True):
            phi.add_incoming(value, origin)
        return phis

    def repeat(phis: list[Any], values: list[Any], target: Any, end: Any) -> None:
        """Once more while the count, the first of the values, is positive; K1 and K are at least 1."""
        for phi, value in zip(phis, values, strict=True):
            phi.add_incoming(value, builder.block)
        builder.cbranch(builder.icmp_signed(">", values[0], integer(0)), target, end)

    builder.position_at_end(outer)
    outside = begin([K1, *a_starts, *b_starts, *[zero] * (rows * columns)], entry)
    builder.branch(inner)
    builder.position_at_end(inner)
    inside = begin([K, *outside[1:]], outer)
    pa, pb = inside[1 : 1 + na], inside[1 + na : 1 + n]
    sums = inside[1 + n :]
    of_b = [load_ir(builder, lane, builder.gep(pb[j // GROUP], [b_within[j % GROUP]])) for j in range(columns)]
    added = []
    for i in range(rows):
        value = load_ir(builder, lane, builder.gep(pa[i // GROUP], [a_within[i % GROUP]]))
        added += [fma_ir(builder, lane, value, of_b[j], sums[i * columns + j]) for j in range(columns)]
    moved = [builder.gep(p, [acs]) for p in pa] + [builder.gep(p, [ldb]) for p in pb]
    repeat(inside, [builder.sub(inside[0], integer(1)), *moved, *added], inner, outer_end)
    builder.position_at_end(outer_end)
    moved = [builder.gep(p, [a1]) for p in outside[1 : 1 + na]]
    moved += [builder.gep(p, [b1]) for p in outside[1 + na : 1 + n]]
    repeat(outside, [builder.sub(outside[0], integer(1)), *moved, *added], outer, done)
    builder.position_at_end(done)
    return added


def _store(
    builder: Any,
    lane: Any,
    kind: int,
    rows: int,
    sums: list[Any],
    of: dict[str, Any],
    fields: dict[str, Any],
    alpha: Any,
) -> None:
    """C from the sums, row by row."""
    columns, zero = len(sums) // rows, ir.Constant(sums[0].type, None)
    starts, strides = {"c": of["c"], "d": of["d"]}, {"c": fields["ldc"], "d": fields["ldd"]}
    if kind == MASKED:
        starts["m"], strides["m"] = of["m"], fields["ldc"]
    for i in range(rows):
        for j in range(columns):
            at = {name: builder.gep(p, [ir.Constant(INT64, j)]) for name, p in starts.items()}
            value = fma_ir(builder, lane, sums[i * columns + j], alpha, load_ir(builder, lane, at["d"]))
            if kind == RELU:
                value = builder.select(builder.fcmp_ordered(">", zero, value), zero, value)  # NaN stays
            if kind == MASKED:
                passes = builder.fcmp_unordered(">", load_ir(builder, lane, at["m"]), zero)
                value = builder.select(passes, value, zero)
            store_ir(builder, lane, value, at["c"])
        starts = {name: builder.gep(p, [strides[name]]) for name, p in starts.items()}
