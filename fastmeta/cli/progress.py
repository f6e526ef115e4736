"""Progress of a training: a bar on a terminal, else a line every few seconds."""

from __future__ import annotations

import time
from contextlib import suppress
from types import TracebackType
from typing import Any

from fastmeta.cli.speech import is_watched, say

SECONDS_BETWEEN_LINES = 10.0
CHECKPOINT_SECONDS = 300.0  # between two checkpoints at most


class Progress:
    """Shows iteration, smoothed loss, tasks a second, how long is left and how often a checkpoint is written, on
    standard error; use it as a context.
    """

    def __init__(self, iterations: int, tasks_per_step: int, checkpoint_every: int) -> None:
        self.iterations, self.tasks_per_step, self.checkpoint_every = iterations, tasks_per_step, checkpoint_every
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
        each = (now - self._started) / max(iteration - self._first, 1)  # seconds
        rate = self.tasks_per_step / max(each, 1e-9) if iteration > self._first else 0.0
        if self._bar is not None:
            with suppress(OSError):  # the terminal is gone
                self._bar.update(1)
                if now - self._shown > 0.2:
                    self._shown = now
                    self._bar.set_postfix_str(f"loss {self._loss:.3f}, {rate:,.0f} tasks/s", refresh=False)
        elif now - self._shown > SECONDS_BETWEEN_LINES:
            self._shown = now
            between = min(self.checkpoint_every * each, CHECKPOINT_SECONDS)
            say(
                f"iteration {iteration:,} of {self.iterations:,}: loss {self._loss:.3f}, {rate:,.0f} tasks/s, "
                f"{duration((self.iterations - iteration) * each)} left, a checkpoint every {duration(between)}",
                err=True,
            )

    def _begin(self, iteration: int, now: float) -> None:
        self._first, self._started, self._shown = iteration, now, now  # the first iteration compiles
        if is_watched():
            from tqdm import tqdm

            self._bar = tqdm(total=self.iterations, initial=iteration - 1, unit="it", dynamic_ncols=True)


def duration(seconds: float) -> str:
    """Seconds as people say them: 0.4 s, 40 s, 3 min, 2 h 5 min."""
    if seconds < 9.5:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
