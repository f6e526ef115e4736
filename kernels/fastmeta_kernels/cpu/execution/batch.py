"""The entry points: a job over a batch of tasks, whole tasks dealt to threads or each instruction of one task.

Tasks are dealt to a fixed number of chunks, each with its own sums, and threads share an instruction by what they
write: the bits do not depend on the threads.
"""

from __future__ import annotations

import numba

from fastmeta_kernels.cpu.execution.execute import instruct
from fastmeta_kernels.cpu.layout.instruction import SERIAL, any_one, step_of
from fastmeta_kernels.cpu.layout.job import code_of, job_of, rows_of, schedule_of
from fastmeta_kernels.cpu.machine.atomic import fetch_add, give_way, pause, read, replace
from fastmeta_kernels.cpu.machine.jit import entry, kernel, linked

BOARD_LINE = 64  # bytes: each word of a board has a cache line for itself
PATIENCE = 500  # looks, 5 to 25 us, until a thread does another's part too
LOOKS = 2000  # until it lets other programs have the core for once


@linked
def run_chunk(ws, jobs, chunk, unused, parts):
    """The tasks of a chunk, one after the other; sums go to those of the chunk."""
    job = job_of(jobs, 0)
    for t in range(chunk * job.tasks // job.chunks, (chunk + 1) * job.tasks // job.chunks):
        instruct(ws, jobs, -1, -1, t, 0, parts)


@kernel
def _take(ws, jobs, r, l, t, part, parts, serial, board, turn):
    """Carry out a part of an instruction, the `turn`-th of the job, if nobody has taken it; whether it was free."""
    if not replace(board + BOARD_LINE * (1 + part), turn, turn + 1):
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

    The board counts parts that are done, then for each part the turns that were taken.
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


@entry(parallel=True)
def run(workspaces, jobs):
    """Run the job (1, FIELDS), a chunk of tasks a thread, each thread in its own part of `workspaces`."""
    job = job_of(jobs, 0)
    size = job.workspace_size
    for chunk in numba.prange(job.chunks):
        start = numba.get_thread_id() * size
        run_chunk(workspaces[start : start + size], jobs, chunk, 0, 1)


@entry(parallel=True)
def run_shared(workspaces, jobs, board, parts):
    """Run the job with `parts` threads at each instruction, to the same bits, each with a panel of its own."""
    for part in numba.prange(parts):
        run_part(workspaces, jobs, part, parts, board)


@entry(parallel=False)
def run_alone(workspaces, jobs):
    """`run` in the calling thread, to the same bits."""
    job = job_of(jobs, 0)
    for chunk in range(job.chunks):
        run_chunk(workspaces[: job.workspace_size], jobs, chunk, 0, 1)
