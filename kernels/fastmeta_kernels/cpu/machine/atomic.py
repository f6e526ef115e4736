"""Atomic integers at an address, for threads that wait for each other without the operating system.

All orders are sequential: what costs nothing on x86 leaves nothing to prove elsewhere.
"""

from __future__ import annotations

from typing import Any

from fastmeta_kernels.cpu.machine.compiler import binding, cgutils, intrinsic, ir, types
from fastmeta_kernels.cpu.machine.vector import INT64

YIELD = "sched_yield" if binding.address_of_symbol("sched_yield") else None  # POSIX
PAUSE = "llvm.x86.sse2.pause" if binding.get_default_triple().startswith(("x86_64", "i686")) else None


def _word(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, INT64.as_pointer())


@intrinsic
def fetch_add(context: Any, address: Any, value: Any) -> Any:
    """Add to the word at an address; what it was before."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", _word(builder, args[0]), args[1], "seq_cst")

    return types.int64(types.int64, types.int64), emit


@intrinsic
def read(context: Any, address: Any) -> Any:
    """The word at an address, and whatever its writer wrote before it."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(_word(builder, args[0]), "seq_cst", 8)

    return types.int64(types.int64), emit


@intrinsic
def replace(context: Any, address: Any, old: Any, new: Any) -> Any:
    """Put `new` where `old` is; whether it was there."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        result = builder.cmpxchg(_word(builder, args[0]), args[1], args[2], "seq_cst", "seq_cst")
        return builder.extract_value(result, 1)

    return types.boolean(types.int64, types.int64, types.int64), emit


@intrinsic
def pause(context: Any) -> Any:
    """A hint that this thread waits."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _call(context, builder, PAUSE, ir.VoidType())

    return types.void(), emit


@intrinsic
def give_way(context: Any) -> Any:
    """Let another thread have this core, where the system can be asked."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _call(context, builder, YIELD, ir.IntType(32))

    return types.void(), emit


def _call(context: Any, builder: Any, name: str | None, result: Any) -> Any:
    if name:
        builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, []), name), [])
    return context.get_dummy_value()
