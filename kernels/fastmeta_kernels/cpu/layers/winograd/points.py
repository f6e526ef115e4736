"""Winograd's F(4, 3) in one dimension: five linear maps on vectors of channels, each one instruction for Numba.

A correlation of 6 values with 3 taps is a product at 6 points, one of them infinity (Winograd 1980; for convolutions
Lavin & Gray 2016, arXiv 1509.09308): y = A^T (G w * B^T x). The finite points are 0, +-a and +-b. With a = 5/8 and
b = 3/2, exact in binary, the error in float32 is half of what it is with the usual 1 and 2.

    B^T x    at 0: x4 - (a^2 + b^2) x2 + a^2 b^2 x0, at infinity the same of x1, x3, x5;
             at +-a: x4 - b^2 x2 +- a (x3 - b^2 x1), at +-b likewise
    G w      at p: (w0 + p w1 + p^2 w2) / N(p), N(p) = product of p - p' over the other finite points; at infinity: w2
    A^T m    yi = sum over p of p^i m(p), and y3 has m(infinity) too
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastmeta_kernels.cpu.layout.winograd import PATCH, TAPS, TILE
from fastmeta_kernels.cpu.machine.compiler import intrinsic, ir, types
from fastmeta_kernels.cpu.machine.vector import (
    FLAGS,
    INT64,
    SCALAR,
    data_pointer,
    fma_ir,
    load_ir,
    splat_ir,
    store_ir,
    vector_ir,
)

LOW, HIGH = 0.625, 1.5  # a and b
LOW2, HIGH2 = LOW**2, HIGH**2
AT_ZERO, AT_LOW, AT_HIGH = 1 / (LOW2 * HIGH2), 0.5 / (LOW2 * (LOW2 - HIGH2)), 0.5 / (HIGH2 * (HIGH2 - LOW2))  # 1 / N


class Emitter:
    """Vectors of one lane type, and constants times them."""

    def __init__(self, builder: Any, lane: Any) -> None:
        self.builder, self.lane = builder, lane
        self.kind = vector_ir(lane)

    def times(self, c: float, x: Any, more: Any = None) -> Any:
        """c x, or c x + more."""
        constant = ir.Constant(self.kind, [c] * self.kind.count)
        if more is None:
            return self.builder.fmul(constant, x, flags=FLAGS)
        return fma_ir(self.builder, self.lane, constant, x, more)

    def plus(self, x: Any, y: Any) -> Any:
        """x + y."""
        return self.builder.fadd(x, y, flags=FLAGS)

    def minus(self, x: Any, y: Any) -> Any:
        """x - y."""
        return self.builder.fsub(x, y, flags=FLAGS)

    def both(self, c: float, x: Any, y: Any) -> list[Any]:
        """y + c x and y - c x."""
        return [self.times(c, x, y), self.times(-c, x, y)]


def patch_rule(e: Emitter, x: list[Any]) -> list[Any]:
    """B^T x."""
    low = e.both(LOW, e.times(-HIGH2, x[1], x[3]), e.times(-HIGH2, x[2], x[4]))
    high = e.both(HIGH, e.times(-LOW2, x[1], x[3]), e.times(-LOW2, x[2], x[4]))
    ends = [e.times(LOW2 * HIGH2, x[i], e.times(-LOW2 - HIGH2, x[i + 2], x[i + 4])) for i in (0, 1)]
    return [ends[0], *low, *high, ends[1]]


def delta_rule(e: Emitter, y: list[Any]) -> list[Any]:
    """A y, the adjoint of A^T."""
    low = e.both(LOW, e.times(LOW2, y[3], y[1]), e.times(LOW2, y[2], y[0]))
    high = e.both(HIGH, e.times(HIGH2, y[3], y[1]), e.times(HIGH2, y[2], y[0]))
    return [y[0], *low, *high, y[3]]


def tile_rule(e: Emitter, m: list[Any]) -> list[Any]:
    """A^T m."""
    even, odd = e.plus(m[1], m[2]), e.minus(m[1], m[2])
    more, less = e.plus(m[3], m[4]), e.minus(m[3], m[4])
    return [
        e.plus(e.plus(m[0], even), more),
        e.times(LOW, odd, e.times(HIGH, less)),
        e.times(LOW2, even, e.times(HIGH2, more)),
        e.times(LOW**3, odd, e.times(HIGH**3, less, m[5])),
    ]


def taps_rule(e: Emitter, w: list[Any]) -> list[Any]:
    """G w."""
    low, high = e.both(LOW, w[1], e.times(LOW2, w[2], w[0])), e.both(HIGH, w[1], e.times(HIGH2, w[2], w[0]))
    finite = [e.times(AT_ZERO, w[0]), *(e.times(AT_LOW, v) for v in low), *(e.times(AT_HIGH, v) for v in high)]
    return [*finite, w[2]]


def gradient_rule(e: Emitter, u: list[Any]) -> list[Any]:
    """G^T u."""
    even, odd = e.times(AT_LOW, e.plus(u[1], u[2])), e.times(AT_LOW, e.minus(u[1], u[2]))
    more, less = e.times(AT_HIGH, e.plus(u[3], u[4])), e.times(AT_HIGH, e.minus(u[3], u[4]))
    return [
        e.times(AT_ZERO, u[0], e.plus(even, more)),
        e.times(LOW, odd, e.times(HIGH, less)),
        e.times(LOW2, even, e.times(HIGH2, more, u[5])),
    ]


ZERO = ir.Constant(INT64, 0)
Rule = Callable[[Emitter, list[Any]], list[Any]]


def _inputs(builder: Any, lane: Any, start: Any, step: Any, count: int, within: Any = None) -> list[Any]:
    """Vectors that lie `step` apart from `start` on; of those outside within[0] .. within[1] zeros, from within[2]."""
    found = []
    for i in range(count):
        index = ir.Constant(INT64, i)
        pointer = builder.gep(start, [builder.mul(step, index)])
        if within:
            first, last, zeros = within
            below, above = builder.icmp_signed("<", index, first), builder.icmp_signed(">=", index, last)
            pointer = builder.select(builder.or_(below, above), zeros, pointer)
        found.append(load_ir(builder, lane, pointer))
    return found


def linear_map(rule: Rule, inputs: int) -> Any:
    """f(ws, source, step, first, last, target, target_step): a map of inputs first .. last, and zeros beside them."""

    @intrinsic
    def apply(
        context: Any, ws: Any, source: Any, step: Any, first: Any, last: Any, target: Any, target_step: Any
    ) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lane, zeros = signature.args[0].dtype, data_pointer(context, builder, signature.args[0], args[0], ZERO)
            within = args[3], args[4], zeros
            values = _inputs(builder, lane, builder.gep(zeros, [args[1]]), args[2], inputs, within)
            _store(builder, lane, rule(Emitter(builder, lane), values), builder.gep(zeros, [args[5]]), args[6])
            return context.get_dummy_value()

        return types.void(ws, *[types.int64] * 6), emit

    return apply


def whole_map(rule: Rule, inputs: int) -> Any:
    """f(ws, source, step, target, target_step): a map of inputs that are all there."""

    @intrinsic
    def apply(context: Any, ws: Any, source: Any, step: Any, target: Any, target_step: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lane, start = signature.args[0].dtype, data_pointer(context, builder, signature.args[0], args[0], ZERO)
            values = _inputs(builder, lane, builder.gep(start, [args[1]]), args[2], inputs)
            _store(builder, lane, rule(Emitter(builder, lane), values), builder.gep(start, [args[3]]), args[4])
            return context.get_dummy_value()

        return types.void(ws, *[types.int64] * 4), emit

    return apply


def _store(builder: Any, lane: Any, values: list[Any], start: Any, step: Any) -> None:
    for i, value in enumerate(values):
        store_ir(builder, lane, value, builder.gep(start, [builder.mul(step, ir.Constant(INT64, i))]))


def finishing_map(rule: Rule, inputs: int) -> Any:
    """f(ws, source, step, bias, relu, count, target, target_step): `count` results plus ws[bias ..], and their ReLU."""

    @intrinsic
    def apply(
        context: Any, ws: Any, source: Any, step: Any, bias: Any, relu: Any, count: Any, target: Any, target_step: Any
    ) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lane, start = signature.args[0].dtype, data_pointer(context, builder, signature.args[0], args[0], ZERO)
            e, to = Emitter(builder, lane), builder.gep(start, [args[6]])
            results = rule(e, _inputs(builder, lane, builder.gep(start, [args[1]]), args[2], inputs))
            low = builder.select(args[4], ir.Constant(SCALAR[lane], 0.0), ir.Constant(SCALAR[lane], float("-inf")))
            lows, more = splat_ir(builder, lane, low), load_ir(builder, lane, builder.gep(start, [args[3]]))
            for i, value in enumerate(results):
                index = ir.Constant(INT64, i)
                with builder.if_then(builder.icmp_signed("<", index, args[5])):
                    value = e.plus(value, more)
                    value = builder.select(builder.fcmp_ordered(">", lows, value), lows, value)  # NaN stays
                    store_ir(builder, lane, value, builder.gep(to, [builder.mul(args[7], index)]))
            return context.get_dummy_value()

        return types.void(ws, *[types.int64] * 3, types.boolean, *[types.int64] * 3), emit

    return apply


from_patch, from_delta = linear_map(patch_rule, PATCH), linear_map(delta_rule, TILE)
to_tile, to_pixels = whole_map(tile_rule, PATCH), finishing_map(tile_rule, PATCH)
from_taps, to_taps = whole_map(taps_rule, TAPS), whole_map(gradient_rule, PATCH)
