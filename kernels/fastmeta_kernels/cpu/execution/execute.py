"""Carries out one instruction, or one thread's part of it, or a whole schedule."""

from __future__ import annotations

from fastmeta_kernels.cpu.layout.instruction import any_one, step_of
from fastmeta_kernels.cpu.layout.job import code_of, integers_at, job_of, rows_of, schedule_of
from fastmeta_kernels.cpu.machine.jit import call_linked, linked


@linked
def instruct(ws, jobs, r, l, t, part, parts):
    """One part of instruction l at step r of the schedule, for task t; r = l = -1: its schedule."""
    job = job_of(jobs, 0)
    code, schedule = code_of(job), schedule_of(job)
    handlers = integers_at(job.handlers, 0, 1)
    steps = rows_of(job, t) if r < 0 else (r, r + 1)
    for step in range(steps[0], steps[1]):
        now = step_of(schedule, step)
        lines = (now.begin, now.end) if l < 0 else (l, l + 1)
        for line in range(lines[0], lines[1]):
            call_linked(handlers[any_one(code, line).op], ws, jobs, step, line, t, part, parts)
