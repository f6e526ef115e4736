"""Learning rates that change from update to update."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fastmeta import checks


@dataclass(frozen=True)
class CosineSchedule:
    """From `start` to `end` along half a cosine over `steps` updates, then `end` (Loshchilov & Hutter 2017).

    >>> CosineSchedule(1e-3, 1e-5, steps=100)(0)
    0.001
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        _check_span(self)

    def __call__(self, step: int) -> float:
        share = min(step / self.steps, 1.0)
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class LinearSchedule:
    """From `start` to `end` in a straight line over `steps` updates, then `end` (Nichol et al. 2018: 1 to 0).

    >>> LinearSchedule(1.0, 0.0, steps=4)(1)
    0.75
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        _check_span(self)

    def __call__(self, step: int) -> float:
        return self.start + (self.end - self.start) * min(step / self.steps, 1.0)


@dataclass(frozen=True)
class StepSchedule:
    """`start`, multiplied by `factor` after each `every` updates (Snell et al. 2017: 1e-3, 0.5, 2000).

    >>> StepSchedule(1e-3, factor=0.5, every=2000)(4000)
    0.00025
    """

    start: float
    factor: float
    every: int

    def __post_init__(self) -> None:
        checks.settle(self, start=checks.positive("start", self.start))
        checks.settle(self, factor=checks.positive("factor", self.factor))
        checks.settle(self, every=checks.integer("every", self.every, 1))

    def __call__(self, step: int) -> float:
        return self.start * self.factor ** (step // self.every)


Schedule = CosineSchedule | LinearSchedule | StepSchedule


def _check_span(schedule: CosineSchedule | LinearSchedule) -> None:
    checks.settle(schedule, start=checks.positive("start", schedule.start))
    checks.settle(schedule, end=checks.real("end", schedule.end))
    checks.settle(schedule, steps=checks.integer("steps", schedule.steps, 1))
    if schedule.end < 0:
        raise ValueError(f"end={schedule.end!r} must be at least 0.")
