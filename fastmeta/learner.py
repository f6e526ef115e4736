"""What every learner shares: fit, adapt, evaluate, save; and `load`, which gives back what was saved."""

from __future__ import annotations

import inspect
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmeta import checkpoint as checkpoints
from fastmeta import checks, evaluation, gradients, inputs, training
from fastmeta.adapted_model import AdaptedModel
from fastmeta.checkpoint import Checkpoint
from fastmeta.device import DEVICES
from fastmeta.layers import BatchNorm
from fastmeta.networks import Network
from fastmeta.optimizers import Adam, Optimizer
from fastmeta.score import Score
from fastmeta.tasks.episode import Batch, TaskSource
from fastmeta.training import Training

Array = NDArray[Any]


class Learner(ABC):
    """An algorithm that learns `parameters`, "theta" (P,) at least, from which a task takes gradient steps.

    Batch norm is transductive in training, adaptation and evaluation: the statistics of the batch at hand.
    A subclass gives `meta_gradients`; its constructor keeps every argument under the argument's name.
    A number as inner_lr is positive; rates in an array may be negative or 0, as learned ones become.
    """

    algorithms: ClassVar[dict[str, type[Learner]]] = {}

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        Learner.algorithms[cls.__name__] = cls

    def __init__(self, net: Network, inner_lr: ArrayLike, inner_steps: int, device: str) -> None:
        if not isinstance(net, Network):
            raise TypeError(f"net={net!r} must be a Network, such as MLP((1, 40, 40, 1)).")
        self.net = net
        self.inner_lr = inputs.initial_rates(inner_lr)
        self.inner_steps = inputs.inner_steps(inner_steps, 1)
        self.device = checks.choice("device", device, DEVICES)
        self._training: Training | None = None
        self._settings: dict[str, Any] = {}
        self._history: dict[str, Array] = {}

    def __repr__(self) -> str:
        shown = ", ".join([str(self.net), *(f"{n}={v}" for n, v in self.hyper_parameters().items())])
        return f"{type(self).__name__}({shown})" + (f", {self.batch_norm} batch norm" if self.batch_norm else "")

    @abstractmethod
    def meta_gradients(self, batch: Batch) -> tuple[float, dict[str, Array]]:
        """The mean loss over the tasks of `batch`, and its gradient by each of `parameters`."""

    def initial_parameters(self, theta: Array) -> dict[str, Array]:
        """What is learned, as it is before the first iteration."""
        return {"theta": theta}

    def hyper_parameters(self) -> dict[str, Any]:
        """The constructor's arguments but for net and device, as plain JSON values."""
        names = [n for n in inspect.signature(type(self)).parameters if n not in ("net", "device")]
        values = {name: getattr(self, name) for name in names}
        return {n: v.tolist() if isinstance(v, np.ndarray) else v for n, v in values.items()}

    @property
    def batch_norm(self) -> str:
        """Whose statistics batch norm uses, "transductive"; "" where the network has none."""
        return "transductive" if any(isinstance(n, BatchNorm) for n in self.net.layers) else ""

    @property
    def training(self) -> Training:
        """Where training stands; RuntimeError before the first fit."""
        if self._training is None:
            raise RuntimeError(f"{type(self).__name__} has learned nothing yet. Call fit(tasks, ...) first.")
        return self._training

    @property
    def parameters(self) -> dict[str, Array]:
        """What was learned: "theta" (P,), and "inner_lr" where the inner rates are learned."""
        return self.training.parameters

    @property
    def theta(self) -> Array:
        """The network's parameters (P,) before adaptation."""
        return self.parameters["theta"]

    @property
    def rates(self) -> float | Array:
        """The inner learning rates in use: the learned ones, otherwise the constructor's inner_lr."""
        return self.parameters.get("inner_lr", self.inner_lr)

    @property
    def history(self) -> dict[str, Array]:
        """One value an iteration, (step,): its mean query "loss", and the "seconds" that it took."""
        return {name: values[: self.training.step] for name, values in self._history.items()}

    def fit(
        self,
        tasks: TaskSource,
        iterations: int,
        tasks_per_step: int = 25,
        optimizer: Optimizer | None = None,
        seed: int = 0,
        *,
        theta: Array | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 1000,
        resume: bool = False,
        callback: Callable[[int, float], None] | None = None,
    ) -> Self:
        """Learn from `iterations` meta-batches; the i-th is tasks.sample(tasks_per_step, seed=seed, step=i).

        optimizer: by default Adam(1e-3). theta (P,): the first parameters, float32 or float64, by default
        net.init(seed). checkpoint: a file, written after the first iteration, after each `checkpoint_every`,
        on Ctrl-C and at the end. resume: go on from that file where it exists, to the same bits as a run that
        was never interrupted; give the same tasks, which are not compared, and no theta.
        callback(iteration, loss): called after each iteration, counted from 1.

        Raises DivergenceError where a loss, gradient or update is not finite; FileExistsError where
        `checkpoint` exists and resume is False; ValueError where it has another network or other settings.
        """
        checks.integer("iterations", iterations, 0)
        checks.integer("checkpoint_every", checkpoint_every, 1)
        _check_tasks(tasks)
        optimizer = Adam(1e-3) if optimizer is None else optimizer
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer={optimizer!r} must be an optimizer, such as fm.Adam(1e-3).")
        if resume and theta is not None:
            raise ValueError("theta must be left out with resume=True: training goes on from the checkpoint's.")
        settings = {
            "tasks_per_step": checks.integer("tasks_per_step", tasks_per_step, 1),
            "seed": checks.integer("seed", seed, 0),
            "optimizer": optimizer.to_dict(),
        }
        first = self.net.init(seed) if theta is None else inputs.parameters(self.net, theta).copy()
        inputs.inner_loop(self.net, self.inner_lr, self.inner_steps, "all", first.dtype)  # or raise before any work
        state = training.begin(self.initial_parameters(first), optimizer)
        start = self._checkpoint(state, settings, {"loss": np.zeros(0), "seconds": np.zeros(0)})
        self._restore(checkpoints.continued(start, checkpoint, resume))
        room = np.zeros(max(0, iterations - self.training.step))
        self._history = {name: np.concatenate([past, room]) for name, past in self.history.items()}
        try:
            begin = self.training.step
            for step in range(begin, iterations):
                loss = self._iterate(tasks, optimizer)
                if callback is not None:
                    callback(step + 1, loss)
                due = step == begin or (step + 1) % checkpoint_every == 0
                if checkpoint is not None and due and step + 1 < iterations:
                    self.save(checkpoint)
            if checkpoint is not None:
                self.save(checkpoint)
        except checks.DivergenceError as error:
            exists = checkpoint is not None and Path(checkpoint).exists()
            kept = f' "{checkpoint}" keeps the last checkpoint.' if exists else ""
            raise checks.DivergenceError(f"Iteration {self.training.step + 1}: {error}{kept}") from error
        except KeyboardInterrupt:
            if checkpoint is not None:
                self.save(checkpoint)
            raise
        return self

    def adapt(
        self,
        x_support: ArrayLike,
        y_support: ArrayLike,
        inner_steps: int | None = None,
        weights: ArrayLike | None = None,
    ) -> AdaptedModel:
        """A model of the task of which x (N, ...) and y, labels (N,) or targets (N, O), are samples.

        inner_steps: by default those of training; there may be more (rates of each step then repeat the last
        step's), and 0 leaves theta as it is. weights (N,) multiply each sample's loss. (T, N, ...) data adapt
        to T tasks at once. Raises DivergenceError, naming the inner step.
        """
        steps = self.inner_steps if inner_steps is None else inputs.inner_steps(inner_steps)
        x, y = inputs.array("x_support", x_support), inputs.array("y_support", y_support)
        phi = self._descend(self.theta, x, y, weights, 0, steps)
        return AdaptedModel(self.net, phi, y.dtype.kind != "f", self.device)

    @overload
    def evaluate(
        self,
        tasks: TaskSource,
        episodes: int = ...,
        inner_steps: int | None = ...,
        seed: int = ...,
        tasks_per_step: int = ...,
    ) -> Score: ...
    @overload
    def evaluate(
        self,
        tasks: TaskSource,
        episodes: int = ...,
        inner_steps: Sequence[int] | Array = ...,
        seed: int = ...,
        tasks_per_step: int = ...,
    ) -> dict[int, Score]: ...
    def evaluate(
        self,
        tasks: TaskSource,
        episodes: int = 600,
        inner_steps: int | Sequence[int] | Array | None = None,
        seed: int = 1,
        tasks_per_step: int = 25,
    ) -> Score | dict[int, Score]:
        """Adapt to each episode's support set and score its query set: accuracy, or mean squared error.

        Episode i is tasks.sample(1, seed=seed, step=i), the same for every algorithm; use another seed than
        in fit. `tasks_per_step` episodes are computed together, which bounds the memory, no more.
        Several inner_steps, as in (1, 5, 10), cost as much as the most and give {inner steps: Score}.
        Raises DivergenceError, naming the episodes.
        """
        checks.integer("episodes", episodes, 1)
        checks.integer("tasks_per_step", tasks_per_step, 1)
        _check_tasks(tasks)
        inner_steps = inner_steps.tolist() if isinstance(inner_steps, np.ndarray) else inner_steps
        asked = inner_steps if isinstance(inner_steps, Sequence) else [inner_steps]
        steps = [self.inner_steps if n is None else inputs.inner_steps(n) for n in asked]
        if not steps:
            raise ValueError(f"inner_steps={inner_steps} must not be empty. Name at least one number of steps.")
        values, measure = evaluation.episode_values(self._query_outputs, tasks, episodes, steps, seed, tasks_per_step)
        scores = {n: Score(values[n], measure, self.batch_norm) for n in steps}
        return scores if asked is inner_steps else scores[steps[0]]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the learner, with all that resuming its training needs, to one safetensors file."""
        checkpoints.write(path, self._checkpoint(self.training, self._settings, self.history))

    def _checkpoint(self, state: Training, settings: dict[str, Any], history: dict[str, Array]) -> Checkpoint:
        return Checkpoint(type(self).__name__, self.hyper_parameters(), self.net, settings, state, history)

    def _restore(self, saved: Checkpoint) -> None:
        self._training, self._settings, self._history = saved.training, saved.settings, saved.history

    def _iterate(self, tasks: TaskSource, optimizer: Optimizer) -> float:
        """One meta-update. `_training` moves on in one assignment, which no interruption can split."""
        start, step = time.perf_counter(), self.training.step
        batch = tasks.sample(self._settings["tasks_per_step"], seed=self._settings["seed"], step=step)
        loss, slopes = self.meta_gradients(batch)
        after = training.advance(self.training, slopes, optimizer)
        self._history["loss"][step] = loss
        self._history["seconds"][step] = time.perf_counter() - start
        self._training = after
        return loss

    def _descend(self, theta: Array, x: Array, y: Array, weights: Any, begin: int, end: int) -> Array:
        """Parameters after inner step `end` from those after step `begin`."""
        if begin == end:
            return theta
        rates = self.rates
        if isinstance(rates, np.ndarray) and rates.ndim == 2:
            rates = rates[np.minimum(np.arange(begin, end), len(rates) - 1)]
        steps = end - begin
        return gradients.adapt(self.net, theta, x, y, rates, steps, weights=weights, device=self.device)

    def _query_outputs(self, batch: Batch, steps: Sequence[int]) -> list[Array]:
        """Outputs (T, M, O) of the query sets after each of the ascending inner steps."""
        support, query = inputs.batch_sets(self.net, batch, self.theta.dtype)
        phi, outputs = self.theta, []
        for begin, end in zip([0, *steps], steps, strict=False):
            phi = self._descend(phi, *support, begin, end)
            outputs.append(gradients.predict(self.net, phi, query.x, device=self.device))
        return outputs


def load(path: str | os.PathLike[str], device: str = "cpu") -> Learner:
    """The learner that `save` or a checkpoint wrote, of its own class, ready to adapt and evaluate.

    Raises FileNotFoundError; ValueError where the file is damaged, edited, foreign, of a later format, or
    names an algorithm that this fastmeta does not have.
    """
    checks.choice("device", device, DEVICES)
    saved = checkpoints.read(path)
    with checkpoints.refused(path):
        kind = checks.choice("algorithm", saved.algorithm, Learner.algorithms)
        learner = Learner.algorithms[kind](saved.net, **saved.hyper_parameters, device=device)
        checkpoints.check_shapes(saved.training, learner.initial_parameters(saved.training.parameters["theta"]))
    learner._restore(saved)
    return learner


def _check_tasks(tasks: Any) -> None:
    if not callable(getattr(tasks, "sample", None)):
        raise TypeError(f"tasks={tasks!r} must have sample(tasks, seed, step), as fm.tasks.Sinusoid() has.")
