"""A job: one int64 array that says what to do with a batch of tasks, where the data are and how big a workspace is.

Entry points take this array and a workspace only: nothing to type, unbox or recompile for another layout of inputs.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numba import carray, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from fastmeta_kernels.cpu.layout import instruction
from fastmeta_kernels.cpu.layout.network import CACHE_LINE
from fastmeta_kernels.cpu.machine.jit import kernel
from fastmeta_kernels.memory import require

TASKS, CHUNKS, WORKSPACE_SIZE, A_CODE, CODE_ROWS, A_SCHEDULE, SCHEDULE_ROWS, FIRST_ROWS, LAST_ROWS = range(9)
STREAMS = 9  # behind it, of each stream: address, bytes from task to task, bytes from chunk to chunk

# Arrays outside the workspace.
(
    THETA, DIRECTION, SUPPORT_X, SUPPORT_Y, SUPPORT_W, QUERY_X, QUERY_Y, QUERY_W, RATES, EDGES,
    SUPPORT_LOSSES, QUERY_LOSSES, RESULTS, GRADIENTS, RATES_GRADIENTS, STEP_VALUES, STEP_GRADIENTS, HEAD,
) = range(18)  # fmt: skip
FIELDS = STREAMS + 3 * 18

_local = threading.local()


@intrinsic
def _address(context: Any, like: Any, address: Any) -> Any:
    """The integer `address` as a pointer to scalars like those of an array."""
    pointer = types.CPointer(like.dtype)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[1], context.get_value_type(signature.return_type))

    return pointer(like, types.int64), emit


@kernel
def array_at(like, address, offset, size):
    """`size` scalars of the dtype of `like`, `offset` scalars behind an address."""
    return carray(_address(like, address + offset * like.itemsize), size)


@kernel
def chunk_of(job, t):
    """The chunk that has task t."""
    return ((t + 1) * job[CHUNKS] - 1) // job[TASKS]


@kernel
def rows_of(job, t):
    """First and last of the schedule's rows for task t: what a chunk needs once is for its first and last task."""
    own = chunk_of(job, t)
    first = 0 if t == 0 or chunk_of(job, t - 1) != own else job[FIRST_ROWS]
    last = 0 if t == job[TASKS] - 1 or chunk_of(job, t + 1) != own else job[LAST_ROWS]
    return first, job[SCHEDULE_ROWS] - last


@kernel
def stream(like, job, which, t, size):
    """The first `size` scalars, of the dtype of `like`, that a stream has for task t."""
    chunk = chunk_of(job, t)
    at = STREAMS + 3 * which
    return carray(_address(like, job[at] + t * job[at + 1] + chunk * job[at + 2]), size)


@kernel
def code_of(job):
    """The instructions (I, FIELDS) of a job."""
    return carray(_address(job, job[A_CODE]), (job[CODE_ROWS], instruction.FIELDS))


@kernel
def schedule_of(job):
    """The schedule (steps, SCHEDULE_FIELDS) of a job."""
    return carray(_address(job, job[A_SCHEDULE]), (job[SCHEDULE_ROWS], instruction.SCHEDULE_FIELDS))


def address(array: NDArray[Any]) -> int:
    """Where an array's values begin."""
    return array.ctypes.data


def workspace(key: Any, threads: int, size: int, dtype: Any, use: str = "network") -> NDArray[Any]:
    """(threads * size,) zeros aligned to cache lines; the last one of this Python thread is reused for the same key.

    Borders and padding stay zero from time to time, so a workspace serves one key only; one is kept for each `use`.
    """
    kept: tuple[Any, Any] = getattr(_local, use, (None, None))
    if kept[0] != key:
        setattr(_local, use, (None, None))  # let go before asking for more
        del kept
        line = CACHE_LINE // np.dtype(dtype).itemsize
        require((threads * size + line) * np.dtype(dtype).itemsize)
        raw = np.zeros(threads * size + line, dtype)
        start = (-raw.ctypes.data % CACHE_LINE) // raw.itemsize
        kept = key, raw[start : start + threads * size]
        setattr(_local, use, kept)
    array: NDArray[Any] = kept[1]
    return array
