"""What a training holds between two iterations: all that the next one depends on, and what was best so far."""

from __future__ import annotations

from typing import NamedTuple

from fastmeta_kernels.contract import Array

BlockSlopes = tuple[Array, dict[str, Array]]  # mean losses (B,) of blocks of tasks; slopes (B, ...) by what is learned


class State(NamedTuple):
    """An optimizer's: how many updates it made, and running means of the gradient, each of theta's shape and dtype."""

    step: int
    moments: tuple[Array, ...]


class Training(NamedTuple):
    """All that the next iteration depends on: what is learned, and its optimizer states, after `step`."""

    step: int
    parameters: dict[str, Array]
    moments: dict[str, State]


class Best(NamedTuple):
    """What scored best on validation: the mean `score` after `step` iterations, and what was learned by then."""

    step: int
    score: float
    parameters: dict[str, Array]
