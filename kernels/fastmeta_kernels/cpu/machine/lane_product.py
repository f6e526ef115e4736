"""The matrix product of vectors with one task in each lane: tiles walked over rows and columns, under its own name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from fastmeta_kernels.cpu.machine.compiler import LIBRARY, cgutils, intrinsic, ir, types
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
    values_of,
)
from fastmeta_kernels.cpu.machine.microkernel import heights
from fastmeta_kernels.cpu.machine.vector import INT64, SCALAR, SUFFIX, data_pointer, splat_ir, vector_ir

ROW_STRIDES = {"a": "ars", "c": "ldc", "d": "ldd", "m": "ldc"}


OF_FIRST_CACHE, FEWEST_ROWS = 512, 6  # vectors of A that stay there while B passes by; but so many rows at least


def _integer(n: int) -> Any:
    return ir.Constant(INT64, n)


class _Loop:
    """A choice of sizes over what is left of a count, pointers moving on by a stride for each unit."""

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

    def over(self, choice: Any, sizes: Iterable[int], emit: Callable[[int], None]) -> None:
        """`emit` for the size chosen, until it is 0; goes on behind the loop."""
        builder = self.builder
        cases = builder.switch(choice, self.end)
        for size in sizes:
            block = builder.append_basic_block(f"of_{size}")
            cases.add_case(_integer(size), block)
            builder.position_at_end(block)
            emit(size)
            for name, stride in self.strides.items():
                moved = builder.gep(self.pointers[name], [builder.mul(stride, _integer(size))])
                self.pointers[name].add_incoming(moved, builder.block)
            self.left.add_incoming(builder.sub(self.left, _integer(size)), builder.block)
            builder.branch(self.loop)
        builder.position_at_end(self.end)


def _panel(module: ir.Module, lane: Any, columns: int) -> ir.Function:
    """All rows of `columns` columns, a function of its own."""
    table = heights(columns, TALLEST[columns], LATENCY, OVERHEAD)
    pointer = vector_ir(lane).as_pointer()
    form = ir.FunctionType(ir.VoidType(), [INT64, *[pointer] * len(POINTERS), INT64.as_pointer(), SCALAR[lane]])
    function = ir.Function(module, form, f"lane_panel_{columns}")
    function.linkage = "internal"
    function.attributes.add("noinline")
    m, *pointers, struct, alpha = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    constant = ir.Constant(ir.ArrayType(INT64, len(table)), table)
    choices = ir.GlobalVariable(module, constant.type, f"lane_heights_{columns}")
    choices.linkage, choices.global_constant = "internal", True
    choices.initializer = constant
    fields, alphas = values_of(builder, struct), splat_ir(builder, lane, alpha)
    strides = {name: fields[stride] for name, stride in ROW_STRIDES.items()}
    loop = _Loop(builder, m, dict(zip(POINTERS, pointers, strict=True)), strides)
    last = _integer(len(table) - 1)
    known = builder.select(builder.icmp_signed("<", loop.left, last), loop.left, last)
    loop.over(
        builder.load(builder.gep(choices, [_integer(0), known])),
        sorted(set(table) - {0}),
        lambda rows: tile(builder, lane, rows, columns, loop.pointers, fields, alphas),
    )
    builder.ret_void()
    return function


@intrinsic
def _walk(
    context: Any, ws: Any, m: Any, n: Any, K1: Any, K: Any, a: Any, ars: Any, acs: Any, a1: Any, b: Any, bcs: Any,
    ldb: Any, b1: Any, c: Any, ldc: Any, d: Any, ldd: Any, mask: Any, relu: Any, alpha: Any,
) -> Any:  # fmt: skip
    """Columns in panels of the widest tiles, what is left in one; a panel's rows in tiles of the best heights."""
    lane = ws.dtype
    names = ("a", "ars", "acs", "a1", "b", "bcs", "ldb", "b1", "c", "ldc", "d", "ldd", "m")

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        m, n = args[1:3]
        values = {"K1": args[3], "K": args[4]} | dict(zip(names, args[5:18], strict=True))
        masked = builder.icmp_signed(">=", values["m"], _integer(0))
        rectified = builder.icmp_signed("!=", args[18], _integer(0))
        unmasked = builder.select(rectified, _integer(RELU), _integer(PLAIN))
        values["kind"] = builder.select(masked, _integer(MASKED), unmasked)
        fields = cgutils.alloca_once(builder, INT64, size=len(FIELDS))
        for index, name in enumerate(FIELDS):
            builder.store(values[name], builder.gep(fields, [_integer(index)]))
        start = builder.bitcast(args[0], vector_ir(lane).as_pointer())
        pointers = {name: builder.gep(start, [values[name]]) for name in POINTERS}
        panels = {columns: _panel(builder.module, lane, columns) for columns in TALLEST}
        loop = _Loop(builder, n, pointers, {"b": values["bcs"]} | dict.fromkeys("cdm", _integer(1)))
        widest = _integer(max(TALLEST))
        wide = builder.icmp_signed("<", loop.left, widest)
        loop.over(
            builder.select(wide, loop.left, widest),
            TALLEST,
            lambda columns: builder.call(panels[columns], [m, *(loop.pointers[n] for n in POINTERS), fields, args[19]]),
        )
        return context.get_dummy_value()

    return types.void(ws, *[types.int64] * 18, lane), emit


def _product(ws, m, n, K1, K, a, ars, acs, a1, b, bcs, ldb, b1, c, ldc, d, ldd, mask, relu, alpha):
    most = max(FEWEST_ROWS, OF_FIRST_CACHE // (K1 * K))
    blocks = (m + most - 1) // most
    for block in range(blocks):
        i = m * block // blocks
        rows, moved = m * (block + 1) // blocks - i, i * ldc
        of_mask = mask + moved if mask >= 0 else mask
        _walk(
            ws, rows, n, K1, K, a + i * ars, ars, acs, a1, b, bcs, ldb, b1, c + moved, ldc, d + i * ldd, ldd, of_mask,
            relu, alpha,
        )  # fmt: skip


@lru_cache
def compile_lane_product(lane: Any) -> None:
    """Compile (or load) the product for float32 or float64 lanes; must run before a kernel that calls it."""
    if LIBRARY is None:
        symbol(_name(lane), types.void(types.CPointer(lane), *[types.int64] * 18, lane), _product)


def _name(lane: Any) -> str:
    return f"fastmeta_lane_product_{SUFFIX[lane]}"


@intrinsic
def lane_product(
    context: Any, ws: Any, m: Any, n: Any, K1: Any, K: Any, a: Any, ars: Any, acs: Any, a1: Any, b: Any, bcs: Any,
    ldb: Any, b1: Any, c: Any, ldc: Any, d: Any, ldd: Any, mask: Any, relu: Any, alpha: Any,
) -> Any:  # fmt: skip
    """C = D + alpha * A B, then its positive part if relu, or 0 but where a mask is positive; no mask if it is < 0.

    A is (m, K1 x K), B is (K1 x K, n); offsets and strides count vectors:
    A[i, k1, k] = ws[a + i ars + k1 a1 + k acs], B[k1, k, j] = ws[b + k1 b1 + k ldb + j bcs],
    C[i, j] = ws[c + i ldc + j], D[i, j] = ws[d + i ldd + j]; C may be D.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lane = signature.args[0].dtype
        start = data_pointer(context, builder, signature.args[0], args[0], ir.Constant(INT64, 0))
        form = ir.FunctionType(ir.VoidType(), [start.type, *[INT64] * 18, SCALAR[lane]])
        function = cgutils.get_or_insert_function(builder.module, form, _name(lane))
        builder.call(function, [start, *args[1:]])
        return context.get_dummy_value()

    return types.void(ws, *[types.int64] * 18, ws.dtype), emit
