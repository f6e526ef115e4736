"""Validation in the course of a fit: a score every so many iterations, the best of them, and when to stop."""

from __future__ import annotations

import sys
import warnings
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastmeta import checks
from fastmeta.learning import training
from fastmeta.learning.states import Best, Training
from fastmeta.tasks.episode import TaskSource
from fastmeta_kernels.contract import Array

SEED = 1_000_002  # of the episodes, the same for every fit
SHOWN = 3  # classes that a warning names


class Validated(Protocol):
    """What is validated: a learner, in the middle of a fit."""

    _training: Training | None
    _best: Best | None
    _history: dict[str, Array]

    @property
    def training(self) -> Training: ...
    def _evaluable(self) -> Training: ...
    def evaluate(self, tasks: TaskSource, episodes: int = ..., *, seed: int = ..., ranks: str | None = ...) -> Any: ...


class Validation(NamedTuple):
    """Episodes of `tasks` score the learner after each `every` iterations, where there are tasks; `patience` scores
    without a better one end the fit, None never does."""

    tasks: TaskSource | None
    every: int
    episodes: int
    patience: int | None

    def settings(self) -> dict[str, int]:
        """What a fit that goes on has to agree with."""
        return {} if self.tasks is None else {"validate_every": self.every, "validation_episodes": self.episodes}

    def until_due(self, step: int) -> int:
        """How many iterations after `step` it is due."""
        return self.every - step % self.every if self.tasks is not None else sys.maxsize

    def score_if_due(self, learner: Validated, ranks: str | None = None) -> None:
        """Score what was learned, where that is due and has not been done; keep it where nothing was better."""
        step = learner.training.step
        if self.tasks is None or step == 0 or step % self.every:
            return
        if not np.isnan(learner._history["validation"][step - 1]):
            return
        now = learner.training
        learner._training = training.on_host(now)
        try:
            learner._training = learner._evaluable()
            score = learner.evaluate(self.tasks, self.episodes, seed=SEED, ranks=ranks)
            best, lower = learner._best, score.measure == "mse"
            if best is None or (score.mean < best.score if lower else score.mean > best.score):
                learner._best = Best(step, score.mean, learner._training.parameters)
        finally:
            learner._training = now
        learner._history["validation"][step - 1] = score.mean

    def is_over(self, learner: Validated) -> bool:
        """Whether the last `patience` scores are all no better than one before."""
        if self.patience is None or learner._best is None:
            return False
        return learner.training.step // self.every - learner._best.step // self.every >= self.patience


def checked(
    tasks: TaskSource,
    validation: TaskSource | None,
    every: int,
    episodes: int,
    patience: int | None,
    iterations: int,
) -> Validation:
    """The validation that a fit on `tasks` is asked for; raises where it cannot be, warns of classes of both."""
    if validation is None:
        if patience is not None:
            raise ValueError(f"patience={patience} must come with validation. Give tasks of other classes to it.")
        return Validation(None, every, episodes, None)
    if not callable(getattr(validation, "sample", None)):
        raise TypeError(f"validation={validation!r} must have sample(tasks, seed, step), as the tasks of fit have.")
    checks.integer("validate_every", every, 1)
    checks.integer("validation_episodes", episodes, 1)
    if patience is not None:
        checks.integer("patience", patience, 1)
    if every > iterations:
        raise ValueError(f"validate_every={every} must be at most iterations={iterations}. Lower it.")
    _warn_of_shared(tasks, validation)
    return Validation(validation, every, episodes, patience)


def _warn_of_shared(tasks: TaskSource, validation: TaskSource) -> None:
    """Warn where a class, or a group, is in both: its score says little of new ones."""
    for attribute, noun in (("member_names", "groups"), ("class_names", "classes")):
        ours, theirs = (getattr(source, attribute, None) for source in (tasks, validation))
        if ours is None or theirs is None:
            continue
        shared = sorted(map(str, set(ours) & set(theirs)))
        if shared:
            more = ", ..." if len(shared) > SHOWN else ""
            warnings.warn(
                f"validation and tasks share {len(shared)} {noun}, {', '.join(shared[:SHOWN])}{more}: its scores say "
                f"little about new {noun}. Split them, or name apart what differs.",
                stacklevel=5,
            )
        return
