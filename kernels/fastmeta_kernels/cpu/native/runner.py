"""Functions of a library for programs in other languages: they run a stored program on one task, in float32.

`fastmeta_check(program, bytes, why)` says whether the file is whole and of this library; `fastmeta_adapt(program, work,
x, y, phi)` and `fastmeta_predict(program, work, phi, x, outputs)` trust it. All arguments are addresses, or integers
of 64 bits. Nothing is kept between calls: each thread has work of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmeta_kernels.cpu.execution.execute import instruct
from fastmeta_kernels.cpu.layout import job, stored
from fastmeta_kernels.cpu.layout.job import FIELDS, integers_at, job_of
from fastmeta_kernels.cpu.layout.stored import HEADER_WORDS, STORED_WORDS, header_of, stored_of
from fastmeta_kernels.cpu.machine.compiler import carray, cgutils, intrinsic, ir, types
from fastmeta_kernels.cpu.machine.jit import kernel, symbol
from fastmeta_kernels.cpu.machine.vector import INT64, VECTOR_BYTES

RIGHT, NO_PROGRAM, DAMAGED, OTHER_LIBRARY = range(4)
TABLE, VERSION = "fastmeta_handlers_float32", "fastmeta_version"
MAGIC, SUMMED = stored.MAGIC, stored.SUMMED
OWN_WIDTH = stored.WIDTHS.index(VECTOR_BYTES)
PROGRAMS = 2 * len(stored.WIDTHS)
OFFSET, PRIME = stored.OFFSET, stored.PRIME
STREAMS = job.JOB.fields["streams"][1] // 8  # type: ignore[index]


def _of_the_library(name: str) -> Any:
    @intrinsic
    def address(context: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.ptrtoint(cgutils.add_global_variable(builder.module, ir.IntType(64), name), INT64)

        return types.int64(), emit

    return address


_handlers, _version = _of_the_library(TABLE), _of_the_library(VERSION)  # where they lie


@intrinsic
def _singles(context: Any, address: Any) -> Any:
    """The integer `address` as a pointer to float32."""
    pointer = types.CPointer(types.float32)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return pointer(types.int64), emit


@kernel
def _header(program):
    return header_of(integers_at(program, 0, (1, HEADER_WORDS)), 0)


@kernel
def _sum(program, count):
    words = integers_at(program, 0, count)
    found = np.int64(OFFSET)
    for i in range(SUMMED, count):
        found = (found ^ words[i]) * np.int64(PRIME)
    return found


@kernel
def _verdict(program, size):
    if size < 8 * HEADER_WORDS or size % 8 != 0 or _header(program).magic != MAGIC:
        return NO_PROGRAM
    if _header(program).bytes != size or _header(program).sum != _sum(program, size // 8):
        return DAMAGED
    return RIGHT if _header(program).stamp == integers_at(_version(), 0, 1)[0] else OTHER_LIBRARY


@kernel
def _run(program, which, work, theta, x, y, results):
    """Fill a job at the beginning of `work`, and carry it out in the program's own workspace behind it."""
    plans = integers_at(program, HEADER_WORDS, (PROGRAMS, STORED_WORDS))
    plan = stored_of(plans, 2 * OWN_WIDTH + which)
    jobs = integers_at(work, 0, (1, FIELDS))
    for i in range(FIELDS):
        jobs[0, i] = 0
    one = job_of(jobs, 0)
    one.tasks = 1
    one.chunks = 1
    one.workspace_size = plan.workspace
    one.code = program + plan.code
    one.code_rows = plan.code_rows
    one.schedule = program + plan.schedule
    one.schedule_rows = plan.schedule_rows
    one.first_rows = plan.first_rows
    one.last_rows = plan.last_rows
    one.handlers = _handlers()
    losses = work + 8 * FIELDS  # nobody reads them
    jobs[0, STREAMS + 3 * job.THETA] = theta
    jobs[0, STREAMS + 3 * job.RATES] = program + _header(program).rates
    jobs[0, STREAMS + 3 * job.EDGES] = program + plan.edges
    jobs[0, STREAMS + 3 * job.SUPPORT_X] = x
    jobs[0, STREAMS + 3 * job.SUPPORT_Y] = y
    jobs[0, STREAMS + 3 * job.QUERY_X] = x
    jobs[0, STREAMS + 3 * job.SUPPORT_LOSSES] = losses
    jobs[0, STREAMS + 3 * job.QUERY_LOSSES] = losses
    jobs[0, STREAMS + 3 * job.RESULTS] = results
    ws = carray(_singles(work + plan.place), plan.workspace)
    instruct(ws, jobs, -1, -1, 0, 0, 1)


def _check(program, size, why):
    integers_at(why, 0, 1)[0] = _verdict(program, size)


def _adapt(program, work, x, y, phi):
    _run(program, 0, work, program + _header(program).theta, x, y, phi)


def _predict(program, work, phi, x, outputs):
    _run(program, 1, work, phi, x, 0, outputs)


def compile_runner() -> None:
    """Compile these functions; the table of handlers must be a name that is known."""
    word = types.int64
    symbol("fastmeta_check", types.void(*[word] * 3), _check)
    symbol("fastmeta_adapt", types.void(*[word] * 5), _adapt)
    symbol("fastmeta_predict", types.void(*[word] * 5), _predict)
