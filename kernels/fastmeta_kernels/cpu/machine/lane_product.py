"""The matrix product of vectors with one task in each lane: tiles walked over rows and columns, under its own name."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastmeta_kernels.cpu.machine.jit import symbol
from fastmeta_kernels.cpu.machine.lane_tile import (
    FIELDS,
    LATENCY,
    MASKED,
    OVERHEAD,
    PLAIN,
    POINTERS,
    RELU,
    TALLEST,
    tile,
)
from fastmeta_kernels.cpu.machine.lane_tile import field as field_of
from fastmeta_kernels.cpu.machine.microkernel import heights
from fastmeta_kernels.cpu.machine.vector import INT64, SCALAR, SUFFIX, data_pointer, vector_ir

ROW_STRIDES = {"a": "ars", "c": "cis", "d": "dis", "m": "cis"}
COLUMN_STRIDES = {"b": "bcs", "c": "cjs", "d": "djs", "m": "cjs"}


def _integer(n: int) -> Any:
    return ir.Constant(INT64, n)


class _Loop:
    """Calls of functions of some size over what is left of a count, pointers moving on by a stride for each unit."""

    def __init__(self, builder: Any, count: Any, pointers: dict[str, Any], strides: dict[str, Any]) -> None:
        self.builder, self.strides = builder, strides
        self.loop, self.end = builder.append_basic_block("loop"), builder.append_basic_block("end")
        origin = builder.block
        builder.branch(self.loop)
        builder.position_at_end(self.loop)
        self.left = builder.phi(INT64)
        self.left.add_incoming(count, origin)
        self.pointers = pointers | {name: builder.phi(pointers[name].type) for name in strides}
        for name in strides:
            self.pointers[name].add_incoming(pointers[name], origin)

    def call(self, choice: Any, functions: dict[int, Any], before: list[Any], after: list[Any]) -> None:
        """The function of the size chosen, 0 ends the loop; then what is left."""
        builder = self.builder
        cases = builder.switch(choice, self.end)
        for size, function in functions.items():
            block = builder.append_basic_block(f"of_{size}")
            cases.add_case(_integer(size), block)
            builder.position_at_end(block)
            builder.call(function, [*before, *(self.pointers[name] for name in POINTERS), *after])
            for name, stride in self.strides.items():
                moved = builder.gep(self.pointers[name], [builder.mul(stride, _integer(size))])
                self.pointers[name].add_incoming(moved, block)
            self.left.add_incoming(builder.sub(self.left, _integer(size)), block)
            builder.branch(self.loop)
        builder.position_at_end(self.end)


def _panel(module: ir.Module, lane: Any, columns: int) -> ir.Function:
    """All rows of `columns` columns."""
    table = heights(columns, TALLEST[columns], LATENCY, OVERHEAD)
    tiles = {height: tile(module, lane, height, columns) for height in sorted(set(table) - {0})}
    form = ir.FunctionType(ir.VoidType(), [INT64, *tiles[1].function_type.args])
    function = ir.Function(module, form, f"lane_panel_{columns}")
    function.linkage = "internal"
    function.attributes.add("noinline")
    m, *pointers, fields, alpha = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    constant = ir.Constant(ir.ArrayType(INT64, len(table)), table)
    choices = ir.GlobalVariable(module, constant.type, f"lane_heights_{columns}")
    choices.linkage, choices.global_constant, choices.initializer = "internal", True, constant
    strides = {name: field_of(builder, fields, stride) for name, stride in ROW_STRIDES.items()}
    loop = _Loop(builder, m, dict(zip(POINTERS, pointers, strict=True)), strides)
    last = _integer(len(table) - 1)
    known = builder.select(builder.icmp_signed("<", loop.left, last), loop.left, last)
    loop.call(builder.load(builder.gep(choices, [_integer(0), known])), tiles, [], [fields, alpha])
    builder.ret_void()
    return function


@intrinsic
def _walk(
    context: Any, ws: Any, m: Any, n: Any, K1: Any, K: Any, a: Any, ars: Any, acs: Any, a1: Any, b: Any, bcs: Any,
    ldb: Any, b1: Any, c: Any, cis: Any, cjs: Any, d: Any, dis: Any, djs: Any, mask: Any, relu: Any, alpha: Any,
) -> Any:  # fmt: skip
    """Columns in panels of the widest tiles, what is left in one; a panel's rows in tiles of the best heights."""
    lane = ws.dtype
    names = ("a", "ars", "acs", "a1", "b", "bcs", "ldb", "b1", "c", "cis", "cjs", "d", "dis", "djs", "m")

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        m, n = args[1:3]
        values = {"K1": args[3], "K": args[4]} | dict(zip(names, args[5:20], strict=True))
        masked = builder.icmp_signed(">=", values["m"], _integer(0))
        rectified = builder.icmp_signed("!=", args[20], _integer(0))
        unmasked = builder.select(rectified, _integer(RELU), _integer(PLAIN))
        values["kind"] = builder.select(masked, _integer(MASKED), unmasked)
        fields = cgutils.alloca_once(builder, INT64, size=len(FIELDS))
        for index, name in enumerate(FIELDS):
            builder.store(values[name], builder.gep(fields, [_integer(index)]))
        start = builder.bitcast(args[0], vector_ir(lane).as_pointer())
        pointers = {name: builder.gep(start, [values[name]]) for name in POINTERS}
        panels = {columns: _panel(builder.module, lane, columns) for columns in TALLEST}
        loop = _Loop(builder, n, pointers, {name: values[stride] for name, stride in COLUMN_STRIDES.items()})
        widest = _integer(max(TALLEST))
        wide = builder.icmp_signed("<", loop.left, widest)
        loop.call(builder.select(wide, loop.left, widest), panels, [m], [fields, args[21]])
        return context.get_dummy_value()

    return types.void(ws, *[types.int64] * 20, lane), emit


def _product(ws, m, n, K1, K, a, ars, acs, a1, b, bcs, ldb, b1, c, cis, cjs, d, dis, djs, mask, relu, alpha):
    _walk(ws, m, n, K1, K, a, ars, acs, a1, b, bcs, ldb, b1, c, cis, cjs, d, dis, djs, mask, relu, alpha)


@lru_cache
def compile_lane_product(lane: Any) -> None:
    """Compile (or load) the product for float32 or float64 lanes; must run before a kernel that calls it."""
    symbol(_name(lane), types.void(types.CPointer(lane), *[types.int64] * 20, lane), _product)


def _name(lane: Any) -> str:
    return f"fastmeta_lane_product_{SUFFIX[lane]}"


@intrinsic
def lane_product(
    context: Any, ws: Any, m: Any, n: Any, K1: Any, K: Any, a: Any, ars: Any, acs: Any, a1: Any, b: Any, bcs: Any,
    ldb: Any, b1: Any, c: Any, cis: Any, cjs: Any, d: Any, dis: Any, djs: Any, mask: Any, relu: Any, alpha: Any,
) -> Any:  # fmt: skip
    """C = D + alpha * A B, then its positive part if relu, or 0 but where a mask is positive; no mask if it is < 0.

    A is (m, K1 x K), B is (K1 x K, n); offsets and strides count vectors:
    A[i, k1, k] = ws[a + i ars + k1 a1 + k acs], B[k1, k, j] = ws[b + k1 b1 + k ldb + j bcs],
    C[i, j] = ws[c + i cis + j cjs], D[i, j] = ws[d + i dis + j djs]; C may be D.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lane = signature.args[0].dtype
        start = data_pointer(context, builder, signature.args[0], args[0], ir.Constant(INT64, 0))
        form = ir.FunctionType(ir.VoidType(), [start.type, *[INT64] * 20, SCALAR[lane]])
        function = cgutils.get_or_insert_function(builder.module, form, _name(lane))
        builder.call(function, [start, *args[1:]])
        return context.get_dummy_value()

    return types.void(ws, *[types.int64] * 20, ws.dtype), emit
