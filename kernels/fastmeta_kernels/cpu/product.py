"""The matrix product of a workspace: register tiles walked over rows and columns, compiled once under its own name."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastmeta_kernels.cpu._jit import kernel, symbol
from fastmeta_kernels.cpu.microkernel import TILES, tile
from fastmeta_kernels.cpu.vector import BYTES, INT64, SCALAR, SUFFIX, VECTOR_BYTES, data_pointer


def _walk(heights: tuple[int, ...], vectors: int) -> Any:
    """Rows i .. m in tiles of the first height while it fits, then of the next."""
    height, product_tile = heights[0], tile(heights[0], vectors)
    rest = _walk(heights[1:], vectors) if len(heights) > 1 else _nothing

    @kernel
    def walk(ws, i, m, K1, K, a, ars, acs, a1, b, ldb, b1, c, ldc, d, ldd, alpha, low):
        while i + height <= m:
            product_tile(
                ws,
                K1,
                K,
                a + i * ars,
                ars,
                acs,
                a1,
                b,
                ldb,
                b1,
                c + i * ldc,
                ldc,
                d + i * ldd,
                ldd,
                alpha,
                low,
            )
            i += height
        rest(ws, i, m, K1, K, a, ars, acs, a1, b, ldb, b1, c, ldc, d, ldd, alpha, low)

    return walk


@kernel
def _nothing(ws, i, m, K1, K, a, ars, acs, a1, b, ldb, b1, c, ldc, d, ldd, alpha, low):
    pass


pairs: Any = None  # these three are bound by `compile_product`
singles: Any = None
width: Any = None


def _product(ws, m, n, K1, K, a, ars, acs, a1, b, ldb, b1, c, ldc, d, ldd, alpha, low):
    j = 0
    while j < n:
        if n - j >= 2 * width:
            pairs(ws, 0, m, K1, K, a, ars, acs, a1, b + j, ldb, b1, c + j, ldc, d + j, ldd, alpha, low)
            j += 2 * width
        else:
            singles(ws, 0, m, K1, K, a, ars, acs, a1, b + j, ldb, b1, c + j, ldc, d + j, ldd, alpha, low)
            j += width


@lru_cache
def compile_product(lane: Any) -> None:
    """Compile (or load) the product for float32 or float64 lanes; must run before a kernel that calls it."""
    bound = {"pairs": _walk(TILES[2], 2), "singles": _walk(TILES[1], 1), "width": VECTOR_BYTES // BYTES[lane]}
    signature = types.void(types.CPointer(lane), *[types.int64] * 15, lane, lane)
    symbol(_name(lane), signature, _product, **bound)


def _name(lane: Any) -> str:
    return f"fastmeta_product_{SUFFIX[lane]}"


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
        lane = signature.args[0].dtype
        start = data_pointer(context, builder, signature.args[0], args[0], ir.Constant(INT64, 0))
        low = builder.select(args[17], ir.Constant(SCALAR[lane], 0.0), ir.Constant(SCALAR[lane], float("-inf")))
        form = ir.FunctionType(ir.VoidType(), [start.type, *[INT64] * 15, SCALAR[lane], SCALAR[lane]])
        function = cgutils.get_or_insert_function(builder.module, form, _name(lane))
        builder.call(function, [start, *args[1:16], args[16], low])
        return context.get_dummy_value()

    return types.void(ws, *[types.int64] * 15, ws.dtype, types.boolean), emit
