"""How many threads, and who of them does what: tasks are dealt to threads, or threads share each instruction."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.cpu.execution.batch import BOARD_LINE, run, run_alone, run_shared
from fastmeta_kernels.cpu.layout import job
from fastmeta_kernels.cpu.machine.processors import available, let_waiting_threads_sleep
from fastmeta_kernels.cpu.program.schedule import Program
from fastmeta_kernels.request import Request

ALONE_WORK = 1_000_000  # multiply-adds of all tasks, 0.2 ms: others would hardly be awake
SHARED_WORK = 100_000  # multiply-adds of a task from which threads share its instructions
_PROCESS = os.getpid()
_lock = threading.Lock()
let_waiting_threads_sleep()


def thread_count() -> int:
    """Threads used: FASTMETA_NUM_THREADS, else what Numba was told, else as many as there are processors for."""
    chosen = os.environ.get("FASTMETA_NUM_THREADS")
    if not chosen:
        told = int(numba.get_num_threads())
        by_itself = told == numba.config.NUMBA_DEFAULT_NUM_THREADS and "NUMBA_NUM_THREADS" not in os.environ
        return min(told, available()) if by_itself else told
    if not (chosen.isascii() and chosen.isdigit()) or int(chosen) < 1:
        raise ValueError(f'FASTMETA_NUM_THREADS="{chosen}" must be a whole number of at least 1.')
    return min(int(chosen), int(numba.config.NUMBA_NUM_THREADS))


def launch(request: Request, program: Program, jobs: NDArray[np.int64], sizes: tuple[int, int], dtype: Any) -> None:
    """Tasks over threads, little work in the calling one; threads share a task's instructions where they are more."""
    tasks, chunks = sizes
    threads = 1 if tasks * program.work < ALONE_WORK else usable()
    shared = tasks < threads and program.work >= SHARED_WORK
    used = threads if shared else min(threads, chunks)
    copies, panels = (1, used - 1) if shared else (used, 0)
    workspaces = job.workspace((request, copies, panels), copies, program.workspace + panels * program.panel, dtype)
    if used == 1:
        run_alone(workspaces, jobs)
    elif shared:
        board = np.zeros((used + 1, BOARD_LINE // 8), np.int64)
        in_threads(used, run_shared, workspaces, jobs, job.address(board), used)
    else:
        in_threads(used, run, workspaces, jobs)


def usable() -> int:
    """Threads that this process can start."""
    return 1 if os.getpid() != _PROCESS else thread_count()  # OpenMP does not survive a fork


def in_threads(threads: int, entry: Callable[..., None], *arguments: Any) -> None:
    """Call an entry point with that many threads."""
    before = numba.get_num_threads()
    if before != threads:
        numba.set_num_threads(threads)
    try:
        with _one_at_a_time():
            entry(*arguments)
    finally:
        if before != threads:
            numba.set_num_threads(before)


def _one_at_a_time() -> contextlib.AbstractContextManager[Any]:
    """Numba's workqueue layer, its last resort, aborts when two Python threads meet in it."""
    try:
        safe = numba.threading_layer() != "workqueue"
    except ValueError:  # not chosen before the first parallel call
        safe = False
    return contextlib.nullcontext() if safe else _lock
