"""The exponential of a machine vector, and the largest of its lanes, for softmax."""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastmeta_kernels.cpu.machine.vector import BYTES, SCALAR, SUFFIX, Vector, fma_ir, splat_ir, vector_ir

# Terms of the Taylor series on [-log(2) / 2, log(2) / 2], and the bits of a mantissa.
TERMS = {types.float32: 8, types.float64: 14}
MANTISSA = {types.float32: 23, types.float64: 52}
LN2_HIGH = {types.float32: 0.693359375, types.float64: 0.6931471803691238}  # few bits: n * LN2_HIGH is exact


@intrinsic
def exp(context: Any, x: Any) -> Any:
    """e^x lane by lane for x <= 0, to an ulp or two; 0 where that is below the normal numbers, NaN where x is.

    x = n log 2 + r with n whole, e^x = 2^n e^r: n goes to the exponent's bits.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lane = signature.return_type.lane
        kind = vector_ir(lane)
        bits = ir.VectorType(ir.IntType(8 * BYTES[lane]), kind.count)
        of = lambda number: splat_ir(builder, lane, ir.Constant(SCALAR[lane], number))  # noqa: E731
        magic = of(1.5 * 2 ** MANTISSA[lane])  # x + magic has round(x) in its last bits
        shifted = fma_ir(builder, lane, args[0], of(1 / math.log(2)), magic)
        n = builder.fsub(shifted, magic)
        r = fma_ir(builder, lane, n, of(-LN2_HIGH[lane]), args[0])
        r = fma_ir(builder, lane, n, of(LN2_HIGH[lane] - math.log(2)), r)
        power = of(1 / math.factorial(TERMS[lane] - 1))
        for term in range(TERMS[lane] - 2, -1, -1):
            power = fma_ir(builder, lane, power, r, of(1 / math.factorial(term)))
        shift = ir.Constant(bits, [MANTISSA[lane]] * kind.count)
        exponent = builder.shl(builder.bitcast(shifted, bits), shift)
        value = builder.bitcast(builder.add(builder.bitcast(power, bits), exponent), kind)
        lowest = of(-(2 ** (8 if lane == types.float32 else 11) / 2 - 3) * math.log(2))
        return builder.select(builder.fcmp_unordered(">", args[0], lowest), value, ir.Constant(kind, None))

    return Vector(x.lane)(x), emit


@intrinsic
def largest(context: Any, vector: Any) -> Any:
    """The largest lane; lanes that are NaN may be left out."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lane = signature.return_type
        kind = vector_ir(lane)
        name = f"llvm.vector.reduce.fmax.v{kind.count}{SUFFIX[lane]}"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(SCALAR[lane], [kind]), name)
        return builder.call(function, args)

    return vector.lane(vector), emit
