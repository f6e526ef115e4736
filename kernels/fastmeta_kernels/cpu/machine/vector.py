"""A SIMD value type for nopython code: one machine vector of float32 or float64.

Numba's autovectorised loops turn scalar without notice; these functions emit explicit LLVM vectors instead.
`load(ws, i)` reads the vector that starts at ws[i]; + - * work lane by lane and contract to fused multiply-adds.

Longer than 200 lines because every operation of one type is here.
"""

from __future__ import annotations

import operator
import os
from typing import Any

from fastmeta_kernels.cpu.machine.compiler import (
    LIBRARY,
    binding,
    cgutils,
    intrinsic,
    ir,
    models,
    overload,
    register_model,
    types,
)

FLAGS = ("contract", "nsz")
INT32, INT64 = ir.IntType(32), ir.IntType(64)
SCALAR = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
SUFFIX = {types.float32: "f32", types.float64: "f64"}
BYTES = {types.float32: 4, types.float64: 8}


def _host_vector_bytes() -> int:
    """The library's; else 64 with AVX-512, 32 with AVX, else 16; FASTMETA_VECTOR_BYTES overrides (for tests)."""
    chosen = os.environ.get("FASTMETA_VECTOR_BYTES")
    if chosen:
        if chosen not in ("16", "32", "64"):
            raise ValueError(f'FASTMETA_VECTOR_BYTES="{chosen}" must be 16, 32 or 64.')
        return int(chosen)
    if LIBRARY is not None:
        return LIBRARY.level.vector_bytes
    features = binding.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx") else 16


VECTOR_BYTES = _host_vector_bytes()


class Vector(types.Type):
    """VECTOR_BYTES of lanes, or `count` times as many that lie side by side."""

    def __init__(self, lane: Any, count: int = 1) -> None:
        self.lane, self.count = lane, count
        self.width = count * VECTOR_BYTES // BYTES[lane]
        super().__init__(name=f"Vector({lane}, {self.width})")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, vector_ir(vector.lane, vector.count))


def vector_ir(lane: Any, count: int = 1) -> ir.VectorType:
    return ir.VectorType(SCALAR[lane], count * VECTOR_BYTES // BYTES[lane])


def data_pointer(context: Any, builder: Any, array: Any, value: Any, offset: Any) -> Any:
    """Address of array[offset]; `array` is an array type or a bare pointer type."""
    start = value if isinstance(array, types.CPointer) else context.make_array(array)(context, builder, value).data
    return builder.gep(start, [offset])


def load_ir(builder: Any, lane: Any, pointer: Any, count: int = 1) -> Any:
    return builder.load(builder.bitcast(pointer, vector_ir(lane, count).as_pointer()), align=BYTES[lane])


def store_ir(builder: Any, lane: Any, value: Any, pointer: Any) -> None:
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=BYTES[lane])


def splat_ir(builder: Any, lane: Any, scalar: Any) -> Any:
    kind = vector_ir(lane)
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(INT32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(INT32, kind.count), [0] * kind.count))


def fma_ir(builder: Any, lane: Any, a: Any, b: Any, c: Any) -> Any:
    kind = vector_ir(lane)
    name = f"llvm.fmuladd.v{kind.count}{SUFFIX[lane]}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), name)
    return builder.call(function, [a, b, c])


@intrinsic
def load(context: Any, array: Any, offset: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = data_pointer(context, builder, signature.args[0], args[0], args[1])
        return load_ir(builder, signature.return_type.lane, pointer)

    return Vector(array.dtype)(array, types.int64), emit


@intrinsic
def load_like(context: Any, array: Any, offset: Any, like: Any) -> Any:
    """As many lanes as `like` has, from array[offset] on."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = data_pointer(context, builder, signature.args[0], args[0], args[1])
        return load_ir(builder, like.lane, pointer, like.count)

    return like(array, types.int64, like), emit


@intrinsic
def doubled(context: Any, vector: Any) -> Any:
    """A vector twice, side by side: one value for Numba, several registers."""
    wide = Vector(vector.lane, 2 * vector.count)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        order = [*range(vector.width)] * 2
        return builder.shuffle_vector(args[0], args[0], ir.Constant(ir.VectorType(INT32, wide.width), order))

    return wide(vector), emit


@intrinsic
def all_of(context: Any, like: Any, scalar: Any) -> Any:
    """A vector of equal lanes, as many as `like` has, rounded to their type."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = context.cast(builder, args[1], signature.args[1], like.lane)
        kind = vector_ir(like.lane, like.count)
        undefined = ir.Constant(kind, ir.Undefined)
        first = builder.insert_element(undefined, value, ir.Constant(INT32, 0))
        return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(INT32, kind.count), [0] * kind.count))

    return like(like, types.float64), emit


@intrinsic
def lanes(context: Any, vector: Any) -> Any:
    """How many lanes a vector has."""
    count = vector.width

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(INT64, count)

    return types.int64(vector), emit


@intrinsic
def store(context: Any, array: Any, offset: Any, value: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = data_pointer(context, builder, signature.args[0], args[0], args[1])
        store_ir(builder, signature.args[2].lane, args[2], pointer)
        return context.get_dummy_value()

    return types.void(array, types.int64, value), emit


def _masked_ir(
    builder: Any, lane: Any, name: str, result: Any, count: Any, *before: Any, after: tuple[Any, ...]
) -> Any:
    """Call llvm.masked.`name` for the first `count` lanes: arguments, alignment, mask, more arguments."""
    width = VECTOR_BYTES // BYTES[lane]
    kind = ir.VectorType(INT64, width)
    undefined = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(undefined, count, ir.Constant(INT32, 0))
    counts = builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(INT32, width), [0] * width))
    mask = builder.icmp_signed("<", ir.Constant(kind, list(range(width))), counts)
    arguments = [*before, ir.Constant(INT32, BYTES[lane]), mask, *after]
    form = ir.FunctionType(result, [argument.type for argument in arguments])
    full = f"llvm.masked.{name}.v{width}{SUFFIX[lane]}.p0"
    return builder.call(cgutils.get_or_insert_function(builder.module, form, full), arguments)


@intrinsic
def load_first(context: Any, array: Any, offset: Any, count: Any) -> Any:
    """The first `count` lanes from array[offset], zeros in the others; no memory behind them is touched."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lane = signature.return_type.lane
        pointer = data_pointer(context, builder, signature.args[0], args[0], args[1])
        kind = vector_ir(lane)
        pointer = builder.bitcast(pointer, kind.as_pointer())
        return _masked_ir(builder, lane, "load", kind, args[2], pointer, after=(ir.Constant(kind, None),))

    return Vector(array.dtype)(array, types.int64, types.int64), emit


@intrinsic
def store_first(context: Any, array: Any, offset: Any, value: Any, count: Any) -> Any:
    """array[offset : offset + count] = the first lanes of value."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lane = signature.args[2].lane
        pointer = data_pointer(context, builder, signature.args[0], args[0], args[1])
        pointer = builder.bitcast(pointer, vector_ir(lane).as_pointer())
        _masked_ir(builder, lane, "store", ir.VoidType(), args[3], args[2], pointer, after=())
        return context.get_dummy_value()

    return types.void(array, types.int64, value, types.int64), emit


@intrinsic
def splat(context: Any, scalar: Any) -> Any:
    """A vector of equal lanes."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return splat_ir(builder, signature.args[0], args[0])

    return Vector(scalar)(scalar), emit


@intrinsic
def total(context: Any, vector: Any) -> Any:
    """Sum of the lanes."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lane = signature.return_type
        kind = vector_ir(lane)
        name = f"llvm.vector.reduce.fadd.v{kind.count}{SUFFIX[lane]}"
        form = ir.FunctionType(SCALAR[lane], [SCALAR[lane], kind])
        function = cgutils.get_or_insert_function(builder.module, form, name)
        return builder.call(function, [ir.Constant(SCALAR[lane], 0.0), args[0]], fastmath=["reassoc"])

    return vector.lane(vector), emit


@intrinsic
def maximum(context: Any, a: Any, b: Any) -> Any:
    """Larger lanes; NaN where either is."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        larger = builder.select(builder.fcmp_unordered(">", args[0], args[1]), args[0], args[1])
        return builder.select(builder.fcmp_unordered("uno", args[1], args[1]), args[1], larger)

    return a(a, b), emit


def _lane_by_lane(symbol: Any, instruction: str) -> None:
    @intrinsic
    def operation(context: Any, a: Any, b: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, instruction)(*args, flags=FLAGS)

        return a(a, b), emit

    @overload(symbol)
    def implementation(a, b):
        if isinstance(a, Vector) and a == b:
            return lambda a, b: operation(a, b)
        return None


for _symbol, _instruction in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
    _lane_by_lane(_symbol, _instruction)
