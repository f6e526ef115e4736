"""Regression of sine curves from a few points, the first problem of the MAML paper."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta import checks
from fastmeta.floating import quiet
from fastmeta.tasks.episode import Batch, stream
from fastmeta.tasks.streams import streams


@dataclass(frozen=True)
class Sinusoid:
    """Tasks y = A sin(x - b): amplitude A, phase b and points x are uniform on the given ranges (low, high).

    `shots` support and `queries` query points a task. Phase and x are in radians. Other shots over the same
    curves: `dataclasses.replace(tasks, shots=5)`.

    Raises ValueError or TypeError where a count is below 1 or a range is not two finite numbers, low <= high.
    Source: Finn, Abbeel and Levine 2017, arXiv 1703.03400, section 5.1.

    >>> Sinusoid(shots=10, queries=10).sample(25, seed=0).x_support.shape
    (25, 10, 1)
    """

    shots: int = 10
    queries: int = 10
    amplitude: tuple[float, float] = (0.1, 5.0)
    phase: tuple[float, float] = (0.0, math.pi)
    x_range: tuple[float, float] = (-5.0, 5.0)

    def __post_init__(self) -> None:
        for name in ("shots", "queries"):
            checks.settle(self, **{name: checks.integer(name, getattr(self, name), 1)})
        for name in ("amplitude", "phase", "x_range"):
            checks.settle(self, **{name: _range(name, getattr(self, name))})

    def sample(self, tasks: int, seed: int, step: int = 0) -> Batch:
        """`tasks` curves: float32 x and y of shape (tasks, shots, 1) and (tasks, queries, 1).

        A pure function of (seed, step). Raises where tasks < 1, or seed or step is not a whole number >= 0.
        """
        return self.share(tasks, 0, tasks, seed, step)

    @quiet
    def share(self, tasks: int, begin: int, end: int, seed: int, step: int = 0) -> Batch:
        """Curves begin .. end - 1 of sample(tasks, seed, step): the same bits, and no others are drawn."""
        rng, points = stream(seed, step), self.shots + self.queries
        curves = rng.random((2, checks.integer("tasks", tasks, 1)))[:, begin:end]
        rng.bit_generator.advance(begin * points)  # type: ignore[attr-defined]
        return self._batch(curves, rng.random((end - begin, points, 1)))

    @quiet
    def several(self, tasks: int, seed: int, step: int, count: int) -> Batch:
        """Curves of sample(tasks, seed, step) and of the next steps, `count` in all: the same bits, in less time."""
        points = self.shots + self.queries
        size = (2 + points) * checks.integer("tasks", tasks, 1)
        drawn = np.empty((count, size))
        for row, rng in zip(drawn, streams(seed, step, count), strict=True):
            rng.random(out=row)
        curves = drawn[:, : 2 * tasks].reshape(count, 2, tasks).swapaxes(0, 1).reshape(2, -1)
        return self._batch(curves, drawn[:, 2 * tasks :].reshape(-1, points, 1))

    def _batch(self, curves: NDArray[np.float64], unit: NDArray[np.float64]) -> Batch:
        """Curves (2, T) and their points (T, points, 1), of which all that is random is in [0, 1)."""
        amplitude, phase = self._ranged(curves)
        low, high = self.x_range
        values = unit * (high - low)  # what is computed next goes to the same place: to go to new ones takes longer
        values += low
        x = values.astype(np.float32)
        np.subtract(x, phase[:, None, None], out=values)
        np.sin(values, out=values)
        values *= amplitude[:, None, None]
        y, k = values.astype(np.float32), self.shots
        return Batch(*(np.ascontiguousarray(part) for part in (x[:, :k], y[:, :k], x[:, k:], y[:, k:])))

    def parameters(self, tasks: int, seed: int, step: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Amplitude and phase, each (tasks,), of the curves that `sample` draws from, whatever the shots."""
        return self._ranged(stream(seed, step).random((2, checks.integer("tasks", tasks, 1))))

    def _ranged(self, curves: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        (a, a_high), (b, b_high) = self.amplitude, self.phase
        return a + (a_high - a) * curves[0], b + (b_high - b) * curves[1]


def _range(name: str, value: Any) -> tuple[float, float]:
    advice = f"Give {name}=(low, high)."
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name}={value!r} must be two numbers. {advice}")
    low, high = (checks.real(f"{name}[{i}]", end, advice) for i, end in enumerate(value))
    if low > high:
        raise ValueError(f"{name}={value!r} must have low <= high. {advice}")
    return low, high
