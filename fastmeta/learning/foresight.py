"""Updates that are computed several at once, and kept until their iterations ask for them.

Nothing else than the time changes by that: an update counts only where the learner, its settings and its parameters
are what it was computed from, whatever a callback did to them; otherwise it is computed anew.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

import numpy as np

from fastmeta.learning.states import State, Training
from fastmeta.tasks.ahead import Ahead
from fastmeta.tasks.episode import Batch
from fastmeta_kernels.contract import Array

SECONDS = 0.05  # of computing ahead: an interruption waits so long


class Foresighted(Protocol):
    """What is trained."""

    _history: dict[str, Array]
    _settings: dict[str, Any]

    @property
    def training(self) -> Training: ...
    def meta_updates(self, batch: Batch, optimizer: Any, states: Array) -> Array | None: ...
    def update_settings(self) -> tuple[Any, ...]: ...


class Foresight:
    """The coming updates of one fit."""

    def __init__(self) -> None:
        self.unseen = 1  # iterations from here on between which nobody looks at the learner
        self.losses: Array = np.zeros(0)  # of those that were computed
        self.states: Array = np.zeros((0, 3, 0))  # theta and both moments before the first of them and after each
        self.done = 0  # of them
        self.before: Training | None = None  # what the next of them was computed from, and by which settings
        self.settings: tuple[Any, ...] = ()
        self.each = 0.0  # seconds that one of them took to compute
        self.seconds = 0.0  # what the last updates took more than they seemed to, or less: others came with them

    def update(self, learner: Foresighted, tasks: Any, optimizer: Any) -> tuple[Array, Training] | None:
        """Losses of the next iterations, of one unless they are unseen, and the training after them.

        None where the next has to be computed by itself.
        """
        self.seconds = 0.0
        if not isinstance(tasks, Ahead):
            return None
        settings, training = (*learner.update_settings(), optimizer), learner.training
        if self.done == len(self.losses) and not self._look(learner, tasks, optimizer, settings):
            return None
        begin = self.done
        same = self.before is training and self.settings == settings
        if not same or not np.array_equal(self.states[begin, 0], training.parameters["theta"]):
            self.done = len(self.losses)
            return None
        end = min(begin + self.unseen, len(self.losses))
        theta, *moments = (values.copy() for values in self.states[end])
        step, state = training.step + end - begin, training.moments["theta"].step + end - begin
        self.before, self.done = Training(step, {"theta": theta}, {"theta": State(state, tuple(moments))}), end
        self.seconds += self.each * (end - begin)
        return self.losses[begin:end], self.before

    def _look(self, learner: Foresighted, tasks: Ahead, optimizer: Any, settings: tuple[Any, ...]) -> bool:
        """Compute updates that a fit will need, and that do not take long; whether there are any."""
        start, training = time.perf_counter(), learner.training
        step, count = training.step, learner._settings["tasks_per_step"]
        if not step:
            return False
        most = int(SECONDS / max(float(learner._history["seconds"][step - 1]), 1e-6))
        batch = tasks.ready(count, learner._settings["seed"], step, max(most, 1))
        several = len(batch) // count
        losses = learner.meta_updates(batch, optimizer, self._room(several, training)) if several > 1 else None
        self.losses, self.done = np.zeros(0) if losses is None else losses, 0
        self.before, self.settings = training, settings
        spent, found = time.perf_counter() - start, len(self.losses)
        self.each = spent / max(found, 1)
        self.seconds = -spent if found else 0.0
        return found > 0

    def _room(self, count: int, training: Training) -> Array:
        """For the states of so many updates; it is kept, as new memory would cost a tenth of them."""
        theta = training.parameters["theta"]
        if len(self.states) <= count or self.states.shape[2:] != theta.shape or self.states.dtype != theta.dtype:
            self.states = np.empty((count + 1, 3, *theta.shape), theta.dtype)
        return self.states[: count + 1]
