"""POSIX semaphores at an address: compiled code sleeps in them, and costs nothing, until another thread posts."""

from __future__ import annotations

import ctypes
from typing import Any

from fastmeta_kernels.cpu.machine.compiler import cgutils, intrinsic, ir, types
from fastmeta_kernels.cpu.machine.vector import INT32, INT64

BYTES = 64  # of a semaphore: 32 in the C libraries of Linux


def make(address: int) -> bool:
    """Begin a semaphore of 0 in zeroed memory; whether this system has them."""
    try:
        start = ctypes.CDLL(None).sem_init
    except (AttributeError, OSError, TypeError):  # Windows
        return False
    start.argtypes = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint
    return bool(start(address, 0, 0) == 0)


def _function(name: str, text: str) -> Any:
    @intrinsic
    def call(context: Any, address: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(INT32, [INT64]), name)
            return builder.call(function, args)

        return types.int32(types.int64), emit

    call.__doc__ = text
    return call


post = _function("sem_post", "Add 1, and wake who sleeps in it.")
wait = _function("sem_wait", "Sleep until it is more than 0, then take 1; not 0 where a signal came before.")
take = _function("sem_trywait", "Take 1 if it is more than 0; 0 where it was.")
