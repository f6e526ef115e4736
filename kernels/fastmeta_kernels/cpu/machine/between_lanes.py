"""What crosses the lanes of machine vectors: one of them, the first few, sums of many vectors, transposed squares."""

from __future__ import annotations

from typing import Any

from fastmeta_kernels.cpu.machine.compiler import intrinsic, ir, types
from fastmeta_kernels.cpu.machine.vector import (
    INT32,
    INT64,
    Vector,
    data_pointer,
    load_ir,
    store_ir,
    vector_ir,
)


@intrinsic
def lane_of(context: Any, vector: Any, lane: Any) -> Any:
    """One lane."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.extract_element(*args)

    return vector.lane(vector, types.int64), emit


@intrinsic
def ones_before(context: Any, like: Any, count: Any) -> Any:
    """1 in the first `count` lanes, 0 in the others."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[0].type
        before = [builder.icmp_signed("<", ir.Constant(INT64, i), args[1]) for i in range(kind.count)]
        value = ir.Constant(kind, None)
        for i, inside in enumerate(before):
            value = builder.insert_element(value, builder.uitofp(inside, kind.element), ir.Constant(INT32, i))
        return value

    return like(like, types.int64), emit


@intrinsic
def totals(context: Any, array: Any, offset: Any) -> Any:
    """The sums of as many vectors as there are lanes, which lie behind each other from array[offset] on."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lane = signature.return_type.lane
        width = vector_ir(lane).count
        start = data_pointer(context, builder, signature.args[0], args[0], args[1])
        rows = [load_ir(builder, lane, builder.gep(start, [ir.Constant(INT64, i * width)])) for i in range(width)]
        group = width  # lanes of a row's sum, which halve as two rows become one
        while group > 1:
            firsts = [q + i for q in range(0, 2 * width, group) for i in range(group // 2)]
            low, high = (ir.Constant(ir.VectorType(INT32, width), [n + d for n in firsts]) for d in (0, group // 2))
            pairs = zip(rows[::2], rows[1::2], strict=True)
            rows = [builder.fadd(*(builder.shuffle_vector(a, b, half) for half in (low, high))) for a, b in pairs]
            group //= 2
        return rows[0]

    return Vector(array.dtype)(array, types.int64), emit


@intrinsic
def transpose(
    context: Any, array: Any, source: Any, source_stride: Any, to: Any, target: Any, target_stride: Any
) -> Any:
    """Transpose a width x width block, offset `source` of one array to offset `target` of another, in registers."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lane = signature.args[0].dtype
        width = vector_ir(lane).count
        read = data_pointer(context, builder, signature.args[0], args[0], args[1])
        write = data_pointer(context, builder, signature.args[3], args[3], args[4])
        at = lambda base, stride, i: builder.gep(base, [builder.mul(stride, ir.Constant(INT64, i))])  # noqa: E731
        rows = [load_ir(builder, lane, at(read, args[2], i)) for i in range(width)]
        low = [n for i in range(width // 2) for n in (i, width + i)]
        halves = [ir.Constant(ir.VectorType(INT32, width), [n + add for n in low]) for add in (0, width // 2)]
        # perfect shuffles: log2(width) rounds of interleaving row i with row i + width / 2
        for _ in range(width.bit_length() - 1):
            pairs = [(rows[i], rows[i + width // 2]) for i in range(width // 2)]
            rows = [builder.shuffle_vector(a, b, half) for a, b in pairs for half in halves]
        for i in range(width):
            store_ir(builder, lane, rows[i], at(write, args[5], i))
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, to, types.int64, types.int64), emit
