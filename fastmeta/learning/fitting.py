"""The loop of `fit`: what it is given is checked, begun or resumed, iterated, watched and kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fastmeta import checks
from fastmeta.device import backend
from fastmeta.learning import checkpoint as checkpoints
from fastmeta.learning import starts, training, validation
from fastmeta.learning.foresight import Foresight
from fastmeta.learning.keeper import Keeper, endings_raised
from fastmeta.learning.optimizers import Optimizer
from fastmeta.learning.ranked import Ranked
from fastmeta.ranks.folder import check_shared
from fastmeta.ranks.joining import alone, joined, on_ranks, writes
from fastmeta.tasks.ahead import ahead
from fastmeta.tasks.episode import TaskSource, check_source
from fastmeta_kernels.contract import Array


class Beginning(NamedTuple):
    """What a fit draws its tasks by, and what it begins from."""

    seed: int
    theta: Array | None
    start: starts.Start | None


class Keeping(NamedTuple):
    """Where and how often a fit is kept, and whether it goes on from there."""

    checkpoint: Any
    every: int
    seconds: float
    resume: bool


class Watch(NamedTuple):
    """What scores a fit in its course, how often, and when that ends it."""

    tasks: TaskSource | None
    every: int
    episodes: int
    patience: int | None


def fit(
    learner: Any,
    tasks: TaskSource,
    iterations: int,
    tasks_per_step: int,
    optimizer: Optimizer | None,
    begin: Beginning,
    keeping: Keeping,
    watch: Watch,
    callback: Callable[[int, float], None] | None,
    ranks: str | None,
) -> None:
    """Train `learner`, as `Learner.fit` says; on ranks, an error of one of them ends it on all."""
    with on_ranks(ranks, learner.device):
        checks.integer("iterations", iterations, 0)
        checks.integer("checkpoint_every", keeping.every, 1)
        keeping = keeping._replace(seconds=checks.positive("checkpoint_seconds", keeping.seconds))
        check_source(tasks)
        optimizer = learner.default_optimizer(iterations) if optimizer is None else optimizer
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer={optimizer!r} must be an optimizer, such as fm.Adam(1e-3).")
        starts.check(begin.theta, begin.start, keeping.resume)
        watched = validation.checked(tasks, *watch, iterations)
        settings = {
            "tasks_per_step": checks.integer("tasks_per_step", tasks_per_step, 1),
            "seed": checks.integer("seed", begin.seed, 0),
            "optimizer": optimizer.to_dict(),
        } | watched.settings()
        _begin(learner, optimizer, settings, begin, keeping, watched.tasks is not None, ranks)
        learner.preparation = getattr(tasks, "preparation", None)
        learner._history = {name: _with_room(past, iterations) for name, past in learner.history.items()}
        training.check_memory(tasks, tasks_per_step, begin.seed, learner.training.step)
        group = None if ranks is None else joined(ranks)
        said = {"iterations": iterations, "patience": watched.patience} | settings
        learner._ranked = None if group is None else Ranked(group, learner, tasks, said)
        wrote = partial(writes, ranks)
        kept = Keeper(learner, keeping.checkpoint, keeping.every, keeping.seconds, wrote)
        ended = nullcontext() if group is None else group.endings
        with endings_raised(keeping.checkpoint is not None), ended, kept as keeper:
            try:
                _iterate(learner, tasks, iterations, optimizer, keeper, watched, callback, ranks)
            except checks.DivergenceError as error:
                exists = keeping.checkpoint is not None and os.path.exists(keeping.checkpoint)
                held = f' "{keeping.checkpoint}" keeps the last checkpoint.' if exists else ""
                raise checks.DivergenceError(f"Iteration {learner.training.step + 1}: {error}{held}") from error
            finally:
                learner._training, learner._fitting = training.on_host(learner.training), False
                learner._foresight = None
            keeper.keep()
            if learner._ranked is not None:
                learner._ranked.finish()
                learner._ranked = None


def _begin(
    learner: Any,
    optimizer: Optimizer,
    settings: dict[str, Any],
    begin: Beginning,
    keeping: Keeping,
    validated: bool,
    ranks: str | None,
) -> None:
    """Let the learner stand where its checkpoint does, which it goes on from, or before its first iteration."""
    if keeping.resume and keeping.checkpoint is not None and os.path.exists(keeping.checkpoint):
        begin = begin._replace(start=None)
    first = starts.first(learner, settings["seed"], begin.theta, begin.start)
    state = training.begin(first, learner.optimizers(optimizer))
    if ranks is not None:
        check_shared(joined(ranks), keeping.checkpoint)
    begun = learner._checkpoint(state, settings, training.no_history(validated))
    learner.restore(checkpoints.continued(begun, keeping.checkpoint, keeping.resume))


def _iterate(
    learner: Any,
    tasks: TaskSource,
    iterations: int,
    optimizer: Optimizer,
    keeper: Keeper,
    watched: validation.Validation,
    callback: Callable[[int, float], None] | None,
    ranks: str | None,
) -> None:
    """Iterate to the end, on the GPU what can be there."""
    source = tasks
    if learner.gpu_parameters and learner.training.step < iterations:
        learner._training = training.on_device(learner.training, learner.gpu_parameters, backend(learner.device))
        source = tasks.on_device(learner.device) if hasattr(tasks, "on_device") else tasks
    source = ahead(source, iterations) if ranks is None else source
    learner._fitting, learner._foresight = True, (foresight := Foresight())
    watched.score_if_due(learner, ranks)  # which an interruption may have prevented
    while learner.training.step < iterations and not watched.is_over(learner):
        if callback is None:
            step = learner.training.step
            foresight.unseen = min(iterations - step, watched.until_due(step), keeper.until_due(step))
        loss = learner._iterate(source, optimizer)
        watched.score_if_due(learner, ranks)
        if callback is not None and writes(ranks):
            with alone(ranks):
                callback(learner.training.step, loss)
        if learner.training.step < iterations:
            keeper.keep_if_due()


def _with_room(past: Array, iterations: int) -> Array:
    """A history (step,) with room for all iterations, nan in it."""
    try:
        history = np.full(max(iterations, len(past)), np.nan)
        history[: len(past)] = past
        return history
    except (MemoryError, ValueError, OverflowError) as error:
        raise MemoryError(
            f"iterations={iterations} must be so few that a loss and a time of each fit the memory. Give fewer."
        ) from error
