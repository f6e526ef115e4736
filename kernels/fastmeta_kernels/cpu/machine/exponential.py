"""Exponentials and logarithms of machine vectors, for softmax and smooth activations: no call, a few ulp at most.

An ulp is the distance of neighbouring numbers; the errors below are of results that are normal numbers.
"""

from __future__ import annotations

import math
from typing import Any

from fastmeta_kernels.cpu.machine.compiler import cgutils, intrinsic, ir, types
from fastmeta_kernels.cpu.machine.jit import kernel
from fastmeta_kernels.cpu.machine.selection import where_above
from fastmeta_kernels.cpu.machine.vector import (
    BYTES,
    SCALAR,
    SUFFIX,
    VECTOR_BYTES,
    Vector,
    all_of,
    fma_ir,
    maximum,
    splat_ir,
    vector_ir,
)

# Terms of the Taylor series on [-log(2) / 2, log(2) / 2], of that of atanh(z) / z on [0, 1 / 3]; bits of a mantissa.
TERMS = {types.float32: 8, types.float64: 14}
ATANH_TERMS = {types.float32: 8, types.float64: 17}
MANTISSA = {types.float32: 23, types.float64: 52}
LN2_HIGH = {types.float32: 0.693359375, types.float64: 0.6931471803691238}  # few bits: n * LN2_HIGH is exact
LN2_LOW = {types.float32: math.log(2) - 0.693359375, types.float64: 1.9082149292705877e-10}  # the rest


@intrinsic
def exp(context: Any, x: Any) -> Any:
    """e^x lane by lane for x <= 0, to 1 ulp; 0 where that is below the normal numbers, NaN where x is.

    x = n log 2 + r with n whole, e^x = 2^n e^r: n goes to the exponent's bits.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lane = signature.return_type.lane
        kind = vector_ir(lane)
        r, exponent = _reduced(builder, lane, args[0])
        power = _series(builder, lane, r, [1 / math.factorial(n) for n in range(TERMS[lane])])
        value = builder.bitcast(builder.add(builder.bitcast(power, exponent.type), exponent), kind)
        return builder.select(_above(builder, lane, args[0]), value, ir.Constant(kind, None))

    return Vector(x.lane)(x), emit


@intrinsic
def expm1(context: Any, x: Any) -> Any:
    """e^x - 1 lane by lane for x <= 0, to 2 ulp also beside 0; NaN where x is."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lane = signature.return_type.lane
        r, exponent = _reduced(builder, lane, args[0])
        one = _of(builder, lane, 1.0)
        tail = _series(builder, lane, r, [1 / math.factorial(n) for n in range(2, TERMS[lane] + 1)])
        less_one = fma_ir(builder, lane, builder.fmul(r, r), tail, r)  # e^r - 1
        scale = builder.bitcast(builder.add(builder.bitcast(one, exponent.type), exponent), one.type)
        value = fma_ir(builder, lane, scale, less_one, builder.fsub(scale, one))
        return builder.select(_above(builder, lane, args[0]), value, _of(builder, lane, -1.0))

    return Vector(x.lane)(x), emit


@intrinsic
def log1p(context: Any, x: Any) -> Any:
    """log(1 + x) lane by lane for 0 <= x <= 1, to 2 ulp; NaN where x is.

    2 atanh(z) = log((1 + z) / (1 - z)) with z = x / (2 + x), at most 1 / 3.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lane = signature.return_type.lane
        z = builder.fdiv(args[0], builder.fadd(args[0], _of(builder, lane, 2.0)))
        return _two_atanh(builder, lane, z)

    return Vector(x.lane)(x), emit


@intrinsic
def log(context: Any, x: Any) -> Any:
    """log(x) lane by lane for finite x >= 1, to 2 ulp; NaN where x is.

    x = m 2^e with 1 <= m < 2, log x = e log 2 + 2 atanh(z) with z = (m - 1) / (m + 1).
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lane, bits = signature.return_type.lane, _bits(signature.return_type.lane)
        one = _of(builder, lane, 1.0)
        whole, of_one = (builder.bitcast(value, bits) for value in (args[0], one))
        mantissa, shift = (ir.Constant(bits, [n] * bits.count) for n in (2 ** MANTISSA[lane] - 1, MANTISSA[lane]))
        e = builder.sitofp(builder.ashr(builder.sub(whole, of_one), shift), one.type)
        m = builder.bitcast(builder.or_(builder.and_(whole, mantissa), of_one), one.type)
        z = builder.fdiv(builder.fsub(m, one), builder.fadd(m, one))
        value = fma_ir(builder, lane, e, _of(builder, lane, math.log(2)), _two_atanh(builder, lane, z))
        return builder.select(builder.fcmp_unordered("uno", args[0], args[0]), args[0], value)

    return Vector(x.lane)(x), emit


@intrinsic
def quotient(context: Any, a: Any, b: Any) -> Any:
    """a / b lane by lane."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fdiv(*args)

    return a(a, b), emit


@kernel
def tanh(x):
    """tanh(x) lane by lane, to 3 ulp: -d / (2 + d) of |x|, d = e^(-2 |x|) - 1; -1 or 1 far out, NaN where x is."""
    zero = all_of(x, 0.0)
    d = expm1(maximum(x, zero - x) * all_of(x, -2.0))
    y = quotient(d, d + all_of(x, 2.0))
    return where_above(x, zero, zero - y, y)


@kernel
def softplus(x):
    """log(1 + e^x) lane by lane, to 3 ulp: max(x, 0) + log(1 + e^(-|x|)); NaN where x is."""
    zero = all_of(x, 0.0)
    return log1p(exp(zero - maximum(x, zero - x))) + maximum(x, zero)


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


def _of(builder: Any, lane: Any, number: float) -> Any:
    return splat_ir(builder, lane, ir.Constant(SCALAR[lane], number))


def _two_atanh(builder: Any, lane: Any, z: Any) -> Any:
    """2 atanh(z) for z in [0, 1 / 3]."""
    square = builder.fmul(z, z)
    tail = _series(builder, lane, square, [2 / (2 * n + 1) for n in range(1, ATANH_TERMS[lane])])
    return fma_ir(builder, lane, builder.fmul(z, square), tail, builder.fadd(z, z))


def _bits(lane: Any) -> Any:
    """The whole numbers in the places of a vector's lanes."""
    return ir.VectorType(ir.IntType(8 * BYTES[lane]), VECTOR_BYTES // BYTES[lane])


def _reduced(builder: Any, lane: Any, x: Any) -> tuple[Any, Any]:
    """r in [-log(2) / 2, log(2) / 2] and n, in the place of an exponent's bits, with x = n log 2 + r."""
    kind = vector_ir(lane)
    bits = ir.VectorType(ir.IntType(8 * BYTES[lane]), kind.count)
    magic = _of(builder, lane, 1.5 * 2 ** MANTISSA[lane])  # x + magic has round(x) in its last bits
    shifted = fma_ir(builder, lane, x, _of(builder, lane, 1 / math.log(2)), magic)
    n = builder.fsub(shifted, magic)
    r = fma_ir(builder, lane, n, _of(builder, lane, -LN2_HIGH[lane]), x)
    r = fma_ir(builder, lane, n, _of(builder, lane, -LN2_LOW[lane]), r)
    shift = ir.Constant(bits, [MANTISSA[lane]] * kind.count)
    return r, builder.shl(builder.bitcast(shifted, bits), shift)


def _series(builder: Any, lane: Any, x: Any, coefficients: list[float]) -> Any:
    """The polynomial of these coefficients, the constant one first, by Horner's rule."""
    *others, last = coefficients
    value = _of(builder, lane, last)
    for coefficient in reversed(others):
        value = fma_ir(builder, lane, value, x, _of(builder, lane, coefficient))
    return value


def _above(builder: Any, lane: Any, x: Any) -> Any:
    """Whether e^x is a normal number, or x is NaN."""
    lowest = -(2 ** (8 if lane == types.float32 else 11) / 2 - 3) * math.log(2)
    return builder.fcmp_unordered(">", x, _of(builder, lane, lowest))
