"""Products with the Hessian or the Fisher matrix at one theta, along many directions: its passes are kept.

What a product needs again, parameters and a set, has a place for each task behind the threads' workspaces. A thread has
a job and a schedule of its own, whose registers it moves there for the task at hand; the instructions are those of a
call without this, and so are the bits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.contract import Array
from fastmeta_kernels.cpu.execution.call import OUTPUTS, WINOGRAD, _Call
from fastmeta_kernels.cpu.execution.execute import instruct
from fastmeta_kernels.cpu.execution.threads import ALONE_WORK, thread_count
from fastmeta_kernels.cpu.execution.workers import crew
from fastmeta_kernels.cpu.layout import job
from fastmeta_kernels.cpu.layout.instruction import LAYOUTS, PARAMETERS, STEP, STEP_FIELDS, X
from fastmeta_kernels.cpu.layout.job import job_at, job_of, schedule_of
from fastmeta_kernels.cpu.layout.layer import CACHE_LINE
from fastmeta_kernels.cpu.machine.atomic import fetch_add
from fastmeta_kernels.cpu.machine.jit import compile_linked, lane_of, linked, linked_address
from fastmeta_kernels.cpu.program.parameters import ADD
from fastmeta_kernels.cpu.program.schedule import Program
from fastmeta_kernels.request import Request

MOST_BYTES = 1 << 30  # of what one function keeps


@linked
def run_kept(ws, jobs, part, parts, board):
    """The next chunk that nobody has taken, each task with its own place for what is kept, until none is left."""
    job = job_of(jobs, 0)
    own, mine = ws[part * job.workspace_size :], job_at(job.threads_jobs + part * job.job_bytes)
    template, schedule = schedule_of(job), schedule_of(job_of(mine, 0))
    chunk = fetch_add(board, 1)
    while chunk < job.chunks:
        for t in range(chunk * job.tasks // job.chunks, (chunk + 1) * job.tasks // job.chunks):
            move = job.kept_at + t * (job.kept_to - job.kept_from) - part * job.workspace_size - job.kept_from
            for r in range(job.schedule_rows):
                for field in range(STEP_FIELDS):
                    value = template[r, field]
                    kept = field <= X and job.kept_from <= value < job.kept_to  # registers come first
                    schedule[r, field] = value + move if kept else value
            instruct(own, mine, -1, -1, t, 0, 1)
        chunk = fetch_add(board, 1)


def keep(request: Request, arrays: dict[str, Array]) -> Callable[[Array], Array] | None:
    """v (T, P) -> products of a request's kind; None where threads share a task, or too much would be kept."""
    if request.directions < thread_count():
        return None
    if WINOGRAD != "auto":
        request = request._replace(variant=WINOGRAD)
    call = Kept(request, arrays, thread_count())
    return call.product if call.bytes <= MOST_BYTES else None


class Kept(_Call):
    """A call whose passes are kept when it is first run; then it needs directions only. A chunk is a task's parts."""

    def __init__(self, request: Request, arrays: dict[str, Array], threads: int) -> None:
        thetas, size = arrays["theta"].shape
        super().__init__(request, arrays | {"v": arrays["theta"]})
        of, line = self.program, CACHE_LINE // self.dtype.itemsize
        self.arrays, self.begun = arrays, False
        self.threads = threads if request.tasks * of.work >= ALONE_WORK else 1
        begin, end = of.kept
        one = -(-of.workspace // line) * line
        scalars = self.threads * one + request.tasks * (end - begin) + line
        self.bytes = scalars * self.dtype.itemsize
        if self.bytes > MOST_BYTES:
            return
        raw = np.zeros(scalars, self.dtype)
        memory = raw[(-raw.ctypes.data % CACHE_LINE) // raw.itemsize :]
        self.memory = job.Workspace(memory, job.address(memory))
        self.code = _adding(of)
        self.losses = np.zeros(self.ends[2], self.dtype)
        self.rows = np.zeros((self.threads, job.FIELDS), np.int64)
        self.schedules = np.repeat(of.schedule[None], self.threads, axis=0)
        sizes = {"chunks": thetas, "first_rows": 0, "code": job.address(self.code), "workspace_size": one}
        sizes |= {"kept_at": self.threads * one, "kept_from": begin, "kept_to": end}
        self._set(**sizes, threads_jobs=job.address(self.rows), job_bytes=self.rows.strides[0])
        self.streams[[job.THETA, job.DIRECTION, job.RESULTS], 1:] = 0, size * self.dtype.itemsize
        self.streams[OUTPUTS[:2], 0] = self.places[:2] + job.address(self.losses)
        self.share = self.dtype.type(thetas / request.tasks)  # of a part
        self.function = _function(self.dtype)

    def product(self, v: Array) -> Array:
        """The products (T, P) along v (T, P)."""
        held = self._read(self.arrays | {"v": v})
        results = np.zeros(v.shape, self.dtype)
        self.streams[job.RESULTS, 0] = job.address(results)
        rest = self.program.schedule[self.program.kept_rows if self.begun else 0 :]
        self._set(schedule=job.address(rest), schedule_rows=len(rest))
        self.rows[:] = self.jobs
        self.rows.view(job.JOB)[:, 0]["schedule"] = [job.address(schedule) for schedule in self.schedules]
        crew().run(self.function, self.memory, job.address(self.jobs), self.threads)
        self.begun = True
        del held
        return results if self.share == 1 else results * self.share

    def _set(self, **values: int) -> None:
        one = self.jobs.view(job.JOB)[0, 0]
        for name, value in values.items():
            one[name] = value


def _adding(of: Program) -> NDArray[np.int64]:
    """The instructions of a program that adds its results to what is there."""
    code, last = of.code.copy(), of.schedule.view(STEP)[-1, 0]
    stores = code[last["begin"] : last["end"]].view(LAYOUTS[PARAMETERS])
    stores["direction"] = ADD
    return code


@lru_cache
def _function(dtype: Any) -> int:
    """Where `run_kept` lies, compiled or loaded."""
    lane = lane_of(dtype)
    compile_linked(lane, "run_kept")
    return linked_address("run_kept", lane)
