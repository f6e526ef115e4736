"""The system's clock, for compiled code that waits only so long: how long a `pause` takes differs tenfold."""

from __future__ import annotations

import time
from typing import Any

from fastmeta_kernels.cpu.machine.compiler import binding, cgutils, intrinsic, ir, types
from fastmeta_kernels.cpu.machine.vector import INT32, INT64

SECOND = 1_000_000_000
CLOCK = "clock_gettime" if binding.address_of_symbol("clock_gettime") else None  # POSIX, as the workers are


@intrinsic
def nanoseconds(context: Any) -> Any:
    """Since some moment; always 0 where the system has no such clock."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if CLOCK is None:
            return ir.Constant(INT64, 0)
        form = ir.FunctionType(INT32, [INT32, INT64.as_pointer()])
        now = cgutils.alloca_once(builder, INT64, size=2)
        clock = ir.Constant(INT32, time.CLOCK_MONOTONIC)
        builder.call(cgutils.get_or_insert_function(builder.module, form, CLOCK), [clock, now])
        seconds, rest = (builder.load(builder.gep(now, [ir.Constant(INT32, i)])) for i in range(2))
        return builder.add(builder.mul(seconds, ir.Constant(INT64, SECOND)), rest)

    return types.int64(), emit
