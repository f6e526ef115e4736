"""A thread's share of a job over a batch of tasks: chunks of whole tasks, or a part of each instruction.

Tasks are dealt to a fixed number of chunks, each with its own sums, and threads share an instruction by what they
write: the bits do not depend on the threads. `board` is where the counters of the job lie.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fastmeta_kernels.cpu.execution.execute import instruct
from fastmeta_kernels.cpu.execution.workers import LINE
from fastmeta_kernels.cpu.layout.instruction import SERIAL, any_one, step_of
from fastmeta_kernels.cpu.layout.job import code_of, job_of, rows_of, schedule_of
from fastmeta_kernels.cpu.machine.atomic import fetch_add, give_way, pause, read, replace
from fastmeta_kernels.cpu.machine.jit import compile_linked, kernel, lane_of, linked, linked_address

PATIENCE = 500  # looks, 5 to 25 us, until a thread does another's part too
LOOKS = 2000  # until it lets other programs have the core for once


@linked
def run_chunks(ws, jobs, part, parts, board):
    """The next chunk that nobody has taken, task by task, until none is left; sums go to those of the chunk."""
    job = job_of(jobs, 0)
    own = ws[part * job.workspace_size :]
    chunk = fetch_add(board, 1)
    while chunk < job.chunks:
        for t in range(chunk * job.tasks // job.chunks, (chunk + 1) * job.tasks // job.chunks):
            instruct(own, jobs, -1, -1, t, 0, 1)
        chunk = fetch_add(board, 1)


@kernel
def _take(ws, jobs, r, l, t, part, parts, serial, board, turn):
    """Carry out a part of an instruction, the `turn`-th of the job, if nobody has taken it; whether it was free."""
    if not replace(board + LINE * (1 + part), turn, turn + 1):
        return False
    if not serial:
        instruct(ws, jobs, r, l, t, part, parts)
    elif part == 0:
        instruct(ws, jobs, r, l, t, 0, 1)
    fetch_add(board, 1)
    return True


@linked
def run_part(ws, jobs, part, parts, board):
    """One thread's part of each instruction, and another's whose thread does not come: it may not run at all.

    The counters: parts that are done, then for each part the turns that were taken.
    """
    job = job_of(jobs, 0)
    schedule, code = schedule_of(job), code_of(job)
    turn, patience = 0, PATIENCE
    for t in range(job.tasks):
        first, last = rows_of(job, t)
        for r in range(first, last):
            now = step_of(schedule, r)
            for l in range(now.begin, now.end):
                serial = any_one(code, l).split == SERIAL
                _take(ws, jobs, r, l, t, part, parts, serial, board, turn)
                looks, waited = 0, patience
                patience = PATIENCE
                while read(board) < (turn + 1) * parts:
                    looks += 1
                    if looks == waited:
                        for other in range(parts):
                            if _take(ws, jobs, r, l, t, other, parts, serial, board, turn):
                                patience = 1  # nor will it come next time
                    if looks % LOOKS == 0:
                        give_way()
                    pause()
                turn += 1


def compile_shares(lane: Any) -> None:
    """Compile, or load, what threads run."""
    compile_linked(lane, "instruct", "run_chunks", "run_part")


@lru_cache
def functions(dtype: Any) -> tuple[int, int]:
    """Where `run_chunks` and `run_part` lie, once they are compiled."""
    lane = lane_of(dtype)
    return linked_address("run_chunks", lane), linked_address("run_part", lane)
