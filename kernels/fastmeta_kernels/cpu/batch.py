"""The entry points: a job over a batch of tasks, whole tasks dealt to threads or each instruction of one task.

Tasks are dealt to a fixed number of chunks, each with its own sums, and threads share an instruction by what they
write: the bits do not depend on the threads.
"""

from __future__ import annotations

import numba

from fastmeta_kernels.cpu._jit import entry, linked
from fastmeta_kernels.cpu.execute import instruct
from fastmeta_kernels.cpu.instruction import BEGIN, END, SERIAL, SPLIT
from fastmeta_kernels.cpu.job import CHUNKS, TASKS, WORKSPACE_SIZE, code_of, schedule_of


@linked
def run_chunk(ws, jobs, chunk, unused, parts):
    """The tasks of a chunk, one after the other; sums go to those of the chunk."""
    tasks, chunks = jobs[0, TASKS], jobs[0, CHUNKS]
    for t in range(chunk * tasks // chunks, (chunk + 1) * tasks // chunks):
        instruct(ws, jobs, -1, -1, t, 0, parts)


@entry(parallel=True)
def run(workspaces, jobs):
    """Run the job (1, FIELDS), a chunk of tasks a thread, each thread in its own part of `workspaces`."""
    for chunk in numba.prange(jobs[0, CHUNKS]):
        start = numba.get_thread_id() * jobs[0, WORKSPACE_SIZE]
        run_chunk(workspaces[start : start + jobs[0, WORKSPACE_SIZE]], jobs, chunk, 0, 1)


@entry(parallel=True)
def run_shared(workspaces, jobs, parts):
    """Run the job with `parts` threads at each instruction, to the same bits, each with a panel of its own."""
    schedule, code = schedule_of(jobs[0]), code_of(jobs[0])
    for t in range(jobs[0, TASKS]):
        for r in range(schedule.shape[0]):
            for l in range(schedule[r, BEGIN], schedule[r, END]):
                if code[l, SPLIT] == SERIAL:
                    instruct(workspaces, jobs, r, l, t, 0, 1)
                else:
                    for part in numba.prange(parts):
                        instruct(workspaces, jobs, r, l, t, part, parts)


@entry(parallel=False)
def run_alone(workspaces, jobs):
    """`run` in the calling thread, to the same bits."""
    for chunk in range(jobs[0, CHUNKS]):
        run_chunk(workspaces[: jobs[0, WORKSPACE_SIZE]], jobs, chunk, 0, 1)
