"""How many threads, and who of them does what: tasks are dealt to threads, or threads share each instruction."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from fastmeta_kernels.cpu.execution.workers import MOST, crew
from fastmeta_kernels.cpu.layout import job
from fastmeta_kernels.cpu.machine.processors import allowed, available

ALONE_WORK = 300_000  # multiply-adds of all tasks, 0.1 ms: another would hardly be awake
SHARED_WORK = 100_000  # multiply-adds of a task from which threads share its instructions
_told: int | None = None  # by a program, before the environment


class Work(NamedTuple):
    """A job, how it can be divided, and the workspaces that it needs."""

    key: Any  # whatever a workspace's layout depends on
    jobs: int  # the job's address
    functions: tuple[int, int]  # addresses of run_chunks and run_part
    tasks: int
    chunks: int
    cost: int  # multiply-adds of a task, about
    workspace: int  # scalars, with a panel at its end
    panel: int  # scalars of which each of the threads that share a task has its own
    dtype: Any
    most: int = MOST  # threads that can share a task; 1: none can
    use: str = "network"  # a workspace is kept for each


def thread_count() -> int:
    """Threads used: as told, as the environment says, or as many as there are processors for."""
    return min(_told or _by_environment() or available(), MOST)


def use_threads(count: int | None) -> None:
    """Use this many threads from now on, None: as many as the environment says; no more than there can be."""
    global _told
    most = max(allowed(), _by_environment())
    if count is not None and not 1 <= count <= most:
        raise ValueError(f"threads={count} must be between 1 and {most}, the processors that this process may use.")
    _told = count


def _by_environment() -> int:
    """FASTMETA_NUM_THREADS, else NUMBA_NUM_THREADS, else 0."""
    for name in ("FASTMETA_NUM_THREADS", "NUMBA_NUM_THREADS"):
        chosen = os.environ.get(name)
        if chosen:
            if not (chosen.isascii() and chosen.isdigit()) or int(chosen) < 1:
                raise ValueError(f'{name}="{chosen}" must be a whole number of at least 1.')
            return int(chosen)
    return 0


def launch(work: Work) -> None:
    """Carry out a job."""
    crew().run(*arranged(work))


def arranged(work: Work) -> tuple[int, job.Workspace, int, int]:
    """What runs where, of `Crew.run`: tasks over threads, little work in the calling one.

    Threads share a task's instructions where they are more than tasks.
    """
    tasks, cost = work.tasks, work.cost
    threads = 1 if tasks * cost < ALONE_WORK else thread_count()
    shared = tasks < threads and cost >= SHARED_WORK and work.most > 1
    used = min(threads, work.most if shared else work.chunks)
    copies, panels = (1, used - 1) if shared else (used, 0)
    size = work.workspace + panels * work.panel
    workspaces = job.workspace((work.key, copies, panels), copies, size, work.dtype, work.use)
    return work.functions[used > 1 and shared], workspaces, work.jobs, used
