"""Instructions: rows of int64 that say what to do with offsets into a workspace; a pass through a network is a list.

An operand is an offset behind a register: `at(S, n)` is n scalars behind the start of the set at hand. A step of a
schedule sets the registers, so that one list serves every inner step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.cpu.layout.network import GEOMETRY, KIND, N
from fastmeta_kernels.cpu.machine.jit import kernel

# Registers: nothing, parameters, set, direction, tangent set, where a gradient goes, next parameters, inputs of a head.
ZERO, P, S, U, R, G, NEXT, X = range(8)
# Further columns of a schedule: inner step, row of the rates, sign of what is added, instructions [BEGIN, END).
STEP, RATE_ROW, SIGN, BEGIN, END = range(8, 13)
SCHEDULE_FIELDS = 13

OP, SPLIT = 0, 1
ARGUMENTS = GEOMETRY  # the columns behind a row's geometry
FIELDS = GEOMETRY + 12

# How an instruction is dealt to threads: not at all, by samples, by vectors of channels, by itself.
SERIAL, SAMPLES, CHANNELS, OWN = range(4)

(
    PRODUCT, TRANSPOSE, DOTS, BIAS, NORM_FORWARD, NORM_BACKWARD, NORM_FORWARD_TANGENT, NORM_BACKWARD_TANGENT,
    POOL_FORWARD, POOL_SUMS, POOL_BACKWARD, POOL_FORWARD_TANGENT, POOL_SUMS_TANGENT, POOL_BACKWARD_TANGENT,
    NORM_GRADIENT, MASK, ACTIVATE, ACTIVATE_BACKWARD, ACTIVATE_TANGENT,
    ACTIVATE_BACKWARD_TANGENT, MAX_FORWARD, MAX_SELECT, MAX_BACKWARD, MEAN_FORWARD, MEAN_BACKWARD, FLATTEN_FORWARD,
    FLATTEN_BACKWARD, MOVE, LOSS, LOSS_TANGENT, INPUT, PARAMETERS, OUTPUT, DESCEND, RATES, MULTIPLY, HEAD, HEAD_BLOCKS,
    AFFINE, AFFINE_GRADIENT, WINOGRAD, WINOGRAD_WEIGHT, WINOGRAD_SUMS, WINOGRAD_GRADIENT,
) = range(44)  # fmt: skip


def at(register: int, offset: int = 0) -> int:
    """An operand."""
    return offset * 8 + register


@kernel
def place(schedule, r, operand):
    """Offset into the workspace of an operand at step r of a schedule."""
    return (operand >> 3) + schedule[r, operand & 7]


@kernel
def share(count, part, parts):
    """First and last of `count` things that are for one of `parts`."""
    if parts == 1:
        return 0, count
    return count * part // parts, count * (part + 1) // parts


class Code:
    """A growing list of instructions."""

    def __init__(self) -> None:
        self.rows: list[NDArray[np.int64]] = []

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, op: int, split: int, *arguments: int, row: NDArray[np.int64] | None = None) -> None:
        """An instruction with its operands and choices, and the geometry of a plan row."""
        values = np.zeros(FIELDS, np.int64)
        if row is not None:
            values[KIND:GEOMETRY] = row[KIND:GEOMETRY]
            values[N] = row[N]
        values[OP], values[SPLIT] = op, split
        values[ARGUMENTS : ARGUMENTS + len(arguments)] = arguments
        self.rows.append(values)

    def array(self) -> NDArray[Any]:
        """(I, FIELDS)."""
        return np.array(self.rows, np.int64).reshape(-1, FIELDS)
