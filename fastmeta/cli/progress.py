"""Progress of a training: a bar on a terminal, else a line every few seconds."""

from __future__ import annotations

import time
from contextlib import suppress
from types import TracebackType
from typing import Any

from fastmeta.cli.speech import is_watched, say

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Shows iteration, smoothed loss and tasks per second on standard error; use it as a context."""

    def __init__(self, iterations: int, tasks_per_step: int) -> None:
        self.iterations, self.tasks_per_step = iterations, tasks_per_step
        self._loss: float | None = None
        self._bar: Any = None
        self._first = 0
        self._started = self._shown = time.perf_counter()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            with suppress(OSError):
                self._bar.close()

    def step(self, iteration: int, loss: float) -> None:
        """`iteration` (from 1) has just been done with this `loss`."""
        now = time.perf_counter()
        if self._loss is None:
            self._begin(iteration, now)
        self._loss = loss if self._loss is None else 0.99 * self._loss + 0.01 * loss
        rate = (iteration - self._first) * self.tasks_per_step / max(now - self._started, 1e-9)
        if self._bar is not None:
            with suppress(OSError):  # the terminal is gone
                self._bar.update(1)
                if now - self._shown > 0.2:
                    self._shown = now
                    self._bar.set_postfix_str(f"loss {self._loss:.3f}, {rate:,.0f} tasks/s", refresh=False)
        elif now - self._shown > SECONDS_BETWEEN_LINES:
            self._shown = now
            left = (self.iterations - iteration) * self.tasks_per_step / rate if rate else 0.0
            say(
                f"iteration {iteration:,} of {self.iterations:,}: loss {self._loss:.3f}, {rate:,.0f} tasks/s, "
                f"{duration(left)} left",
                err=True,
            )

    def _begin(self, iteration: int, now: float) -> None:
        self._first, self._started, self._shown = iteration, now, now  # the first iteration compiles
        if is_watched():
            from tqdm import tqdm

            self._bar = tqdm(total=self.iterations, initial=iteration - 1, unit="it", dynamic_ncols=True)


def duration(seconds: float) -> str:
    """Seconds as people say them: 40 s, 3 min, 2 h 5 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
