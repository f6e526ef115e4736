"""Updates that are computed several at once, each kept until its iteration asks for it.

Nothing else than the time changes by that: an update counts only where the learner, its settings and its parameters
are what it was computed from, whatever a callback did to them; otherwise it is computed anew.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastmeta.learning.states import Training
from fastmeta.tasks.ahead import Ahead
from fastmeta.tasks.episode import Batch
from fastmeta_kernels.contract import Array

SECONDS = 0.02  # of computing ahead: an interruption waits so long


class Foresighted(Protocol):
    """What is trained."""

    _history: dict[str, Array]
    _settings: dict[str, Any]

    @property
    def training(self) -> Training: ...
    def meta_updates(self, batches: list[Batch], optimizer: Any) -> list[tuple[float, Training]]: ...
    def update_settings(self) -> tuple[Any, ...]: ...


class Update(NamedTuple):
    """What an iteration will make of a training."""

    before: Training
    theta: Array  # a copy of what it was
    settings: tuple[Any, ...]
    loss: float
    after: Training


class Foresight:
    """The coming updates of one fit."""

    def __init__(self) -> None:
        self.coming: deque[Update] = deque()
        self.each = 0.0  # seconds that one of them took to compute
        self.seconds = 0.0  # what the last update took more than it seemed to, or less: others were computed with it

    def update(self, learner: Foresighted, tasks: Any, optimizer: Any) -> tuple[float, Training] | None:
        """The loss of the next iteration and the training after it; None where it has to be computed by itself."""
        self.seconds = 0.0
        if not isinstance(tasks, Ahead):
            return None
        settings = *learner.update_settings(), optimizer
        if not self.coming and not self._look(learner, tasks, optimizer, settings):
            return None
        now = self.coming.popleft()
        training = learner.training
        same = now.before is training and now.settings == settings
        if same and np.array_equal(now.theta, training.parameters["theta"]):
            self.seconds += self.each
            return now.loss, now.after
        self.coming.clear()
        return None

    def _look(self, learner: Foresighted, tasks: Ahead, optimizer: Any, settings: tuple[Any, ...]) -> bool:
        """Compute updates that a fit will need, and that do not take long; whether there are any."""
        start, training = time.perf_counter(), learner.training
        step, before = training.step, learner._history["seconds"][: training.step]
        if not step:
            return False
        most = int(SECONDS / max(float(before[-1]), 1e-6))
        batches = tasks.ready(learner._settings["tasks_per_step"], learner._settings["seed"], step, most)
        for loss, after in learner.meta_updates(batches, optimizer) if len(batches) > 1 else []:
            self.coming.append(Update(training, training.parameters["theta"].copy(), settings, loss, after))
            training = after
        spent = time.perf_counter() - start
        self.each = spent / max(len(self.coming), 1)
        self.seconds = -spent if self.coming else 0.0
        return bool(self.coming)
