"""A schedule as it grows: segments of code, the order in which they run, room in the workspace; and the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.cpu.layout import instruction as op
from fastmeta_kernels.cpu.layout.instruction import Code
from fastmeta_kernels.cpu.layout.network import CACHE_LINE, Plan


class Program(NamedTuple):
    """Instructions (I, FIELDS), the schedule (rows, SCHEDULE_FIELDS) and the workspace that one thread needs."""

    code: NDArray[np.int64]
    schedule: NDArray[np.int64]
    first_rows: int  # rows at the schedule's start for a chunk's first task only
    last_rows: int  # and at its end for the last only
    workspace: int  # scalars, with a panel at its end
    panel: int  # scalars of which each of the threads that share an instruction has its own
    query: Plan
    work: int  # multiply-adds of a task, about
    head: NDArray[np.int64] | None  # fields of a prototype head, but for the data's


class Schedule:
    """`rows` run segments of `code` with the registers set as they say; `size` scalars of workspace are in use."""

    def __init__(self, itemsize: int) -> None:
        self.code = Code()
        self.rows: list[list[int]] = []
        self.segments: dict[str, tuple[int, int]] = {}
        self.line, self.size = CACHE_LINE // itemsize, 0

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

    def run(self, name: str, **columns: int) -> None:
        """Run a segment with registers and columns set; nothing where it is empty."""
        begin, end = self.segments[name]
        if begin < end:
            row = [0] * op.SCHEDULE_FIELDS
            for column, value in ({"SIGN": 1, "BEGIN": begin, "END": end} | columns).items():
                row[getattr(op, column)] = value
            self.rows.append(row)
