"""The register of handlers: which of them carries out the instructions of a kind."""

from __future__ import annotations

from collections.abc import Callable

from fastmeta_kernels.cpu.layout.instruction import step_of
from fastmeta_kernels.cpu.layout.job import code_of, job_of, schedule_of
from fastmeta_kernels.cpu.machine.jit import inlined, linked

HANDLERS: dict[int, str] = {}  # kind of instruction -> its handler
LANE_HANDLERS: dict[int, str] = {}  # the same of tasks in lanes


def handles(*kinds: int, register: dict[int, str] = HANDLERS) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A handler of these kinds: machine code of its own, named after the function."""

    def registered(function: Callable[..., None]) -> Callable[..., None]:
        body = inlined(function)

        def handle(ws, jobs, r, l, t, part, parts):
            job = job_of(jobs, 0)
            body(ws, job, code_of(job), l, step_of(schedule_of(job), r), t, part, parts)

        handle.__name__ = handle.__qualname__ = function.__name__  # machine code is named after it
        register.update(dict.fromkeys(kinds, function.__name__))
        return linked(handle)

    return registered
