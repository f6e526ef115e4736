"""The matrix product of a workspace: register tiles walked over rows and columns, compiled once under its own name."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fastmeta_kernels.cpu.machine.compiler import LIBRARY, cgutils, intrinsic, ir, types
from fastmeta_kernels.cpu.machine.jit import symbol
from fastmeta_kernels.cpu.machine.microkernel import ARGUMENTS, POINTERS, TALLEST, heights, tile
from fastmeta_kernels.cpu.machine.vector import BYTES, INT64, SCALAR, SUFFIX, VECTOR_BYTES, data_pointer

MOVES_BY_ROW = {"a": "ars", "c": "ldc", "d": "ldd", "m": "ldm"}


@intrinsic
def _walk(
    context: Any, ws: Any, m: Any, n: Any, K1: Any, K: Any, a: Any, ars: Any, acs: Any, a1: Any, b: Any, ldb: Any,
    b1: Any, c: Any, ldc: Any, d: Any, ldd: Any, mask: Any, alpha: Any, low: Any,
) -> Any:  # fmt: skip
    """Columns in panels of two or three vectors, an odd one alone; a panel's rows in tiles of the best heights."""
    lane = ws.dtype
    width = VECTOR_BYTES // BYTES[lane]
    integer = lambda value: ir.Constant(INT64, value)  # noqa: E731

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        masked = builder.icmp_signed(">=", args[16], integer(0))
        values = dict(zip(ARGUMENTS, [*args[3:17], builder.select(masked, args[13], integer(0))], strict=True))
        for name in POINTERS:
            values[name] = builder.gep(args[0], [values[name]])
        values["m"] = builder.select(masked, values["m"], _ones(builder, lane, width))
        m, n = args[1:3]
        columns = cgutils.alloca_once_value(builder, n)
        bodies = {vectors: _panel(builder.module, lane, vectors) for vectors in TALLEST}
        loop, body, end = (builder.append_basic_block(name) for name in ("panels", "panel", "columns_done"))
        builder.branch(loop)
        builder.position_at_end(loop)
        left = builder.load(columns)
        builder.cbranch(builder.icmp_signed(">", left, integer(0)), body, end)
        builder.position_at_end(body)
        odd = builder.icmp_signed("!=", builder.and_(builder.udiv(left, integer(width)), integer(1)), integer(0))
        alone = builder.icmp_signed("<=", left, integer(width))
        choice = builder.select(alone, integer(1), builder.select(odd, integer(3), integer(2)))
        offset = builder.sub(n, left)
        cases = builder.switch(choice, end)
        for vectors, function in bodies.items():
            block = builder.append_basic_block(f"vectors_{vectors}")
            cases.add_case(integer(vectors), block)
            builder.position_at_end(block)
            moved = values | {name: builder.gep(values[name], [offset]) for name in "bcd"}
            moved["m"] = builder.gep(values["m"], [builder.select(masked, offset, integer(0))])
            builder.call(function, [m, *(moved[name] for name in ARGUMENTS), *args[17:19]])
            builder.store(builder.sub(left, integer(vectors * width)), columns)
            builder.branch(loop)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return types.void(ws, *[types.int64] * 16, lane, lane), emit


def _ones(builder: Any, lane: Any, width: int) -> Any:
    """A row of ones, as wide as the widest panel: a mask that lets everything pass."""
    count = width * max(TALLEST)
    ones = ir.Constant(ir.ArrayType(SCALAR[lane], count), [1.0] * count)
    found = builder.module.globals.get("ones")
    if found is None:
        found = ir.GlobalVariable(builder.module, ones.type, "ones")
        found.linkage, found.global_constant = "internal", True
        found.initializer = ones
    return builder.gep(found, [ir.Constant(INT64, 0), ir.Constant(INT64, 0)])


def _panel(module: ir.Module, lane: Any, vectors: int) -> ir.Function:
    """All rows of `vectors` vectors of columns."""
    table = heights(vectors, TALLEST[vectors])
    tiles = {height: tile(module, lane, height, vectors) for height in sorted(set(table) - {0})}
    kinds = list(next(iter(tiles.values())).function_type.args)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [INT64, *kinds]), f"panel_{vectors}")
    function.linkage = "internal"
    function.attributes.add("noinline")
    m, args = function.args[0], function.args[1:]
    values = dict(zip(ARGUMENTS, args, strict=False))
    entry = function.append_basic_block("entry")
    builder = ir.IRBuilder(entry)
    integer = lambda value: ir.Constant(INT64, value)  # noqa: E731
    constant = ir.Constant(ir.ArrayType(INT64, len(table)), table)
    choices = ir.GlobalVariable(module, constant.type, f"heights_{vectors}")
    choices.linkage, choices.global_constant = "internal", True
    choices.initializer = constant
    loop, end = function.append_basic_block("rows"), function.append_basic_block("done")
    builder.branch(loop)
    builder.position_at_end(loop)
    left = builder.phi(INT64)
    left.add_incoming(m, entry)
    moving = {name: builder.phi(values[name].type) for name in MOVES_BY_ROW}
    for name, phi in moving.items():
        phi.add_incoming(values[name], entry)
    known = builder.select(builder.icmp_signed("<", left, integer(len(table))), left, integer(len(table) - 1))
    height = builder.load(builder.gep(choices, [integer(0), known]))
    cases = builder.switch(height, end)
    for rows, function_tile in tiles.items():
        block = function.append_basic_block(f"height_{rows}")
        cases.add_case(integer(rows), block)
        builder.position_at_end(block)
        now = values | moving
        builder.call(function_tile, [*(now[name] for name in ARGUMENTS), *args[-2:]])
        for name, phi in moving.items():
            step = builder.mul(values[MOVES_BY_ROW[name]], integer(rows))
            phi.add_incoming(builder.gep(phi, [step]), block)
        left.add_incoming(builder.sub(left, integer(rows)), block)
        builder.branch(loop)
    builder.position_at_end(end)
    builder.ret_void()
    return function


def _product(ws, m, n, K1, K, a, ars, acs, a1, b, ldb, b1, c, ldc, d, ldd, mask, alpha, low):
    _walk(ws, m, n, K1, K, a, ars, acs, a1, b, ldb, b1, c, ldc, d, ldd, mask, alpha, low)


@lru_cache
def compile_product(lane: Any) -> None:
    """Compile (or load) the product for float32 or float64 lanes; must run before a kernel that calls it."""
    if LIBRARY is None:
        symbol(_name(lane), types.void(types.CPointer(lane), *[types.int64] * 16, lane, lane), _product)


def _name(lane: Any) -> str:
    return f"fastmeta_product_{SUFFIX[lane]}"


def _emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """The call of a masked product."""
    lane = signature.args[0].dtype
    start = data_pointer(context, builder, signature.args[0], args[0], ir.Constant(INT64, 0))
    low = builder.select(args[17], ir.Constant(SCALAR[lane], 0.0), ir.Constant(SCALAR[lane], float("-inf")))
    form = ir.FunctionType(ir.VoidType(), [start.type, *[INT64] * 16, SCALAR[lane], SCALAR[lane]])
    function = cgutils.get_or_insert_function(builder.module, form, _name(lane))
    builder.call(function, [start, *args[1:16], args[18], args[16], low])
    return context.get_dummy_value()


@intrinsic
def masked_product(
    context: Any, ws: Any, m: Any, n: Any, K1: Any, K: Any, a: Any, ars: Any, acs: Any, a1: Any, b: Any, ldb: Any,
    b1: Any, c: Any, ldc: Any, d: Any, ldd: Any, alpha: Any, relu: Any, mask: Any,
) -> Any:  # fmt: skip
    """`product`, then 0 but where a mask is positive, ws[mask + i ldc + j] at [i, j]; none if mask < 0."""
    return types.void(ws, *[types.int64] * 15, ws.dtype, types.boolean, types.int64), _emit


@intrinsic
def product(
    context: Any, ws: Any, m: Any, n: Any, K1: Any, K: Any, a: Any, ars: Any, acs: Any, a1: Any, b: Any, ldb: Any,
    b1: Any, c: Any, ldc: Any, d: Any, ldd: Any, alpha: Any, relu: Any,
) -> Any:  # fmt: skip
    """C = D + alpha * A B, then its positive part if relu. A is (m, K1 x K), B is (K1 x K, n), n in whole vectors.

    A[i, k1, k] = ws[a + i ars + k1 a1 + k acs], B[k1, k, j] = ws[b + k1 b1 + k ldb + j],
    C[i, j] = ws[c + i ldc + j], D[i, j] = ws[d + i ldd + j]; C may be D.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _emit(context, builder, signature, [*args, ir.Constant(INT64, -1)])

    return types.void(ws, *[types.int64] * 15, ws.dtype, types.boolean), emit
