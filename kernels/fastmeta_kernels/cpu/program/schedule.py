"""A schedule as it grows: segments of code, the order in which they run, room in the workspace; and the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.cpu.layout import instruction as op
from fastmeta_kernels.cpu.layout.instruction import Code
from fastmeta_kernels.cpu.layout.layer import CACHE_LINE
from fastmeta_kernels.cpu.layout.network import Plan


class Program(NamedTuple):
    """Instructions (I, FIELDS), the schedule (steps, STEP_FIELDS) and the workspace that one thread needs."""

    code: NDArray[np.int64]
    schedule: NDArray[np.int64]
    first_rows: int  # rows at the schedule's start for a chunk's first task only
    last_rows: int  # and at its end for the last only
    workspace: int  # scalars, with a panel at its end
    panel: int  # scalars of which each of the threads that share an instruction has its own
    query: Plan
    work: int  # multiply-adds of a task, about
    head: NDArray[np.void] | None  # a prototype head, but for the data's fields
    kept: tuple[int, int]  # first and last scalar of what products need again: parameters and their set
    kept_rows: int  # rows at the schedule's start that make it


class Schedule:
    """`rows` run segments of `code` with the registers set as they say; `size` scalars of workspace are in use."""

    def __init__(self, itemsize: int) -> None:
        self.code = Code()
        self.rows: list[NDArray[np.void]] = []
        self.segments: dict[str, tuple[int, int]] = {}
        self.line, self.size = CACHE_LINE // itemsize, 0
        self.first_rows = self.last_rows = 0  # at its start and end for a chunk's first and last task only
        self.kept_rows = 0  # at its start, before those that depend on a direction

    def up(self, count: int) -> int:
        """`count` in whole cache lines."""
        return -(-count // self.line) * self.line

    def room(self, count: int) -> int:
        """Where `count` scalars of their own begin."""
        start, self.size = self.size, self.size + self.up(count)
        return start

    def segment(self, name: str, *emit: Callable[[], None]) -> None:
        """Name the instructions that `emit` adds."""
        begin = len(self.code)
        for part in emit:
            part()
        self.segments[name] = begin, len(self.code)

    def run(self, name: str, **fields: int) -> None:
        """Run a segment with registers and fields of the step set; nothing where it is empty."""
        begin, end = self.segments[name]
        if begin < end:
            step = np.zeros((), op.STEP)
            for field, value in ({"sign": 1, "begin": begin, "end": end} | fields).items():
                step[field] = value
            self.rows.append(step)

    def array(self) -> NDArray[np.int64]:
        """(steps, STEP_FIELDS)."""
        return np.array([np.frombuffer(step.tobytes(), np.int64) for step in self.rows])
