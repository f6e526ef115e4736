"""Choosing between lanes by a comparison: a select never lets the lane that is not taken leak, as a product would."""

from __future__ import annotations

from typing import Any

from fastmeta_kernels.cpu.machine.compiler import intrinsic, ir


@intrinsic
def where_positive(context: Any, mask: Any, value: Any) -> Any:
    """value where mask > 0, else 0: a select, so that junk in a masked lane cannot leak."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero = ir.Constant(args[0].type, None)
        return builder.select(builder.fcmp_unordered(">", args[0], zero), args[1], zero)

    return value(mask, value), emit


@intrinsic
def where_above(context: Any, a: Any, b: Any, value: Any, other: Any) -> Any:
    """value where a > b or either is NaN, else other."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_unordered(">", args[0], args[1]), args[2], args[3])

    return value(a, b, value, other), emit


@intrinsic
def where_equal(context: Any, a: Any, b: Any, value: Any, other: Any) -> Any:
    """value where a == b, else other."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("==", args[0], args[1]), args[2], args[3])

    return value(a, b, value, other), emit
