"""A job: one record that says what to do with a batch of tasks, where the data are and how big a workspace is.

Entry points take it as int64 (1, FIELDS) and a workspace only: nothing to type, unbox or recompile for another layout
of inputs.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.cpu.layout import instruction
from fastmeta_kernels.cpu.layout.layer import CACHE_LINE
from fastmeta_kernels.cpu.layout.record import row_as
from fastmeta_kernels.cpu.machine.compiler import carray, intrinsic, types
from fastmeta_kernels.cpu.machine.jit import kernel
from fastmeta_kernels.memory import require

# Streams: arrays outside the workspace.
(
    THETA, DIRECTION, SUPPORT_X, SUPPORT_Y, SUPPORT_W, QUERY_X, QUERY_Y, QUERY_W, RATES, EDGES,
    SUPPORT_LOSSES, QUERY_LOSSES, RESULTS, GRADIENTS, RATES_GRADIENTS, STEP_PARAMETERS, STEP_GRADIENTS, HEAD, SLOPES,
    PULLS, PULLS_GRADIENT, SUPPORT_LOGS, QUERY_LOGS,
) = range(23)  # fmt: skip
_SIZES = "tasks chunks workspace_size code code_rows schedule schedule_rows first_rows last_rows handlers batch"
_KEPT = "threads_jobs job_bytes kept_at kept_from kept_to"  # of products whose passes are kept, execution/kept.py
# `batch` is T; the job's tasks are those, or blocks of them, one in each lane of a vector.
# `streams` has of each its address, the bytes from task to task and the bytes from chunk to chunk.
JOB = np.dtype(
    [*((name, np.int64) for name in f"{_SIZES} {_KEPT}".split()), ("streams", np.int64, (23, 3))], align=True
)
FIELDS = JOB.itemsize // 8

_local = threading.local()


@intrinsic
def _address(context: Any, like: Any, address: Any) -> Any:
    """The integer `address` as a pointer to scalars like those of an array."""
    pointer = types.CPointer(like.dtype)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[1], context.get_value_type(signature.return_type))

    return pointer(like, types.int64), emit


job_of = row_as(JOB)  # of an int64 (1, FIELDS)


@intrinsic
def _integers(context: Any, address: Any) -> Any:
    """The integer `address` as a pointer to int64."""
    pointer = types.CPointer(types.int64)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return pointer(types.int64), emit


@kernel
def array_at(like, address, offset, size):
    """`size` scalars of the dtype of `like`, `offset` scalars behind an address."""
    return carray(_address(like, address + offset * like.itemsize), size)


@kernel
def integers_at(address, offset, size):
    """`size` int64, `offset` of them behind an address."""
    return carray(_integers(address + offset * 8), size)


@kernel
def job_at(address):
    """The job, (1, FIELDS), that lies at an address."""
    return carray(_integers(address), (1, FIELDS))


@kernel
def chunk_of(job, t):
    """The chunk that has task t."""
    return ((t + 1) * job.chunks - 1) // job.tasks


@kernel
def rows_of(job, t):
    """First and last of the schedule's steps for task t: what a chunk needs once is for its first and last task."""
    own = chunk_of(job, t)
    first = 0 if t == 0 or chunk_of(job, t - 1) != own else job.first_rows
    last = 0 if t == job.tasks - 1 or chunk_of(job, t + 1) != own else job.last_rows
    return first, job.schedule_rows - last


@kernel
def _start(job, which, t):
    """The address of what a stream has for task t."""
    streams = job.streams
    return streams[which, 0] + t * streams[which, 1] + chunk_of(job, t) * streams[which, 2]


@kernel
def stream(like, job, which, t, size):
    """The first `size` scalars, of the dtype of `like`, that a stream has for task t."""
    return carray(_address(like, _start(job, which, t)), size)


@kernel
def lane_task(job, block, lane, lanes):
    """The task in a lane of a block; a lane for which there is none has the last task again."""
    return min(block * lanes + lane, job.batch - 1)


@kernel
def lane_address(job, which, block, lane, lanes):
    """The address of what a stream has for the task in a lane of a block."""
    streams = job.streams
    return streams[which, 0] + lane_task(job, block, lane, lanes) * streams[which, 1]


@kernel
def integers(job, which, t, size):
    """The first `size` int64, a number or a shape, that a stream has for task t."""
    return carray(_integers(_start(job, which, t)), size)


@kernel
def code_of(job):
    """The instructions (I, FIELDS) of a job."""
    return carray(_integers(job.code), (job.code_rows, instruction.FIELDS))


@kernel
def schedule_of(job):
    """The schedule (steps, 13) of a job."""
    return carray(_integers(job.schedule), (job.schedule_rows, instruction.STEP_FIELDS))


_HEAD = object.__basicsize__  # of any Python object; behind it NumPy's C interface has the address of an array's values
_word_at = ctypes.c_size_t.from_address


def address(array: NDArray[Any]) -> int:
    """Where an array's values begin; `array.ctypes.data` in a seventh of the time."""
    return _word_at(id(array) + _HEAD).value


if address(_probe := np.zeros(1)) != _probe.ctypes.data:  # not CPython's objects

    def address(array: NDArray[Any]) -> int:
        """Where an array's values begin."""
        return array.ctypes.data


class Workspace(NamedTuple):
    """Scalars, and where they lie."""

    values: NDArray[Any]
    at: int


def workspace(key: Any, threads: int, size: int, dtype: Any, use: str) -> Workspace:
    """(threads * size,) zeros aligned to cache lines; the last one of this Python thread is reused for the same key.

    Borders and padding stay zero from time to time, so a workspace serves one key only; one is kept for each `use`.
    """
    kept: tuple[Any, Workspace] | None = getattr(_local, use, None)
    if kept is None or kept[0] != key:
        setattr(_local, use, None)
        kept = None  # let go before asking for more
        line = CACHE_LINE // np.dtype(dtype).itemsize
        require((threads * size + line) * np.dtype(dtype).itemsize)
        raw = np.zeros(threads * size + line, dtype)
        start = (-raw.ctypes.data % CACHE_LINE) // raw.itemsize
        values = raw[start : start + threads * size]
        kept = key, Workspace(values, address(values))
        setattr(_local, use, kept)
    return kept[1]


def lanes(values: NDArray[Any], dtype: Any) -> Any:
    """What kernels read an array as: labels are int64."""
    return dtype if values.dtype.kind == "f" else np.int64
