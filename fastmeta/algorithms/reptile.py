"""Reptile: theta moves towards the parameters that tasks learn (Nichol, Achiam & Schulman 2018)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastmeta import checks, inputs
from fastmeta.floating import no_overflow
from fastmeta.gradients import functions as gradients
from fastmeta.gradients.task_sets import batch_sets, task_set
from fastmeta.learning.gradient_learner import INNER_RATE, GradientLearner, InnerSteps
from fastmeta.learning.inner_steps import naming_step
from fastmeta.learning.optimizers import SGD, Adam, Optimizer
from fastmeta.learning.schedules import LinearSchedule
from fastmeta.learning.settings import Setting
from fastmeta.learning.states import State
from fastmeta.networks.losses import Loss
from fastmeta.networks.network import Network
from fastmeta.tasks.episode import Batch, stream
from fastmeta_kernels.contract import Array, TaskSet

Rows = NDArray[np.int64]


class Reptile(GradientLearner):
    """theta += epsilon * mean over tasks of (phi - theta), no second derivatives (arXiv 1803.02999, algorithm 2).

    phi is theta after `inner_steps` of an optimizer on mini-batches of `inner_batch` support samples: they walk
    through the support set in random order, again and again; None, or a smaller set, means all of it at each step.
    inner_optimizer: "adam", which has beta1=0 and keeps its second moment from task to task and for evaluation, as
    the authors' code does, or "sgd"; inner_lr: its rate. The support set should be larger than at evaluation (the
    paper: 10 shots); query samples give the reported loss and nothing else. tasks_per_step=1 is the serial
    version, algorithm 1. epsilon is the rate of fit's optimizer, by default SGD from 1 to 0 in a straight line.
    loss as in MAML.

    Raises ValueError or TypeError where an argument is out of range, DivergenceError where training diverges.

    >>> from fastmeta import MLP, Reptile, tasks
    >>> reptile = Reptile(MLP((1, 40, 40, 1)), inner_lr=0.02, inner_optimizer="sgd", device="numpy")
    >>> reptile.fit(tasks.Sinusoid(), iterations=2).evaluate(tasks.Sinusoid(), episodes=4).measure
    'mse'
    """

    training_sizes = ("shots",)
    recipes: ClassVar = {
        "": {"learning_rate": 1.0},
        "sinusoid": {
            "inner_lr": 0.02,
            "inner_steps": 8,
            "inner_optimizer": "sgd",
            "evaluation_steps": (0, 1, 5, 10, 32),
        },
        "omniglot": {
            "tasks_per_step": 5,
            "inner_lr": 1e-3,
            "inner_steps": 5,
            "inner_batch": 10,
            "train_shots": 10,
            "evaluation_steps": (50,),
        },
        "omniglot, 20 ways": {"inner_lr": 5e-4, "inner_steps": 10, "inner_batch": 20},
        "images": {
            "tasks_per_step": 5,
            "inner_lr": 1e-3,
            "inner_steps": 8,
            "inner_batch": 10,
            "train_shots": 15,
            "evaluation_steps": (50,),
        },
    }
    gpu_parameters = ("theta", "second_moment")

    def __init__(
        self,
        net: Network,
        inner_lr: Annotated[float, INNER_RATE] = 1e-3,
        inner_steps: InnerSteps = 5,
        inner_batch: Annotated[int | None, Setting(int, "Samples of an inner step.")] = 10,
        inner_optimizer: Annotated[str, Setting(("adam", "sgd"), "Of the inner steps.")] = "adam",
        device: str = "cpu",
        *,
        loss: Loss | None = None,
    ) -> None:
        super().__init__(net, checks.positive("inner_lr", inner_lr), inner_steps, device, loss)
        self.inner_batch = None if inner_batch is None else checks.integer("inner_batch", inner_batch, 1)
        self.inner_optimizer = checks.choice("inner_optimizer", inner_optimizer, ("adam", "sgd"))
        self._rule = Adam(inner_lr, beta1=0.0) if inner_optimizer == "adam" else SGD(inner_lr)

    def default_optimizer(self, iterations: int) -> Optimizer:
        """SGD with epsilon from 1 to 0."""
        return self.paper_optimizer(1.0, iterations)

    def paper_optimizer(self, learning_rate: float, iterations: int) -> Optimizer:
        """SGD to 0 in a straight line."""
        return SGD(LinearSchedule(learning_rate, 0.0, steps=max(iterations, 1)))

    def optimizers(self, optimizer: Optimizer) -> dict[str, Optimizer]:
        """theta's is `optimizer`; the second moment is replaced by that of the tasks."""
        return {"theta": optimizer, "second_moment": SGD(1.0)}

    def initial_parameters(self, theta: Array, seed: int = 0) -> dict[str, Array]:
        """theta (P,), and for "adam" its second moment (P,)."""
        adam = self.inner_optimizer == "adam"
        return {"theta": theta} | ({"second_moment": np.zeros_like(theta)} if adam else {})

    def meta_gradients(self, batch: Batch) -> tuple[float, dict[str, Array]]:
        """The mean query loss at phi, and theta - mean phi."""
        support, query = batch_sets(self.net, batch, self.theta.dtype, self.device, self.loss)
        rng = stream(self._settings["seed"], self.training.step)
        first, last = self.first_task, self.first_task + len(batch)
        *_, (phi, state) = self._walk(support, self.inner_steps, rng, first, last)
        losses = gradients.loss(self.net, phi, *query[:3], loss=self.loss, device=self.device)
        slopes = {"theta": self.theta - phi.mean(axis=0)}
        if state.moments:
            slopes["second_moment"] = self.parameters["second_moment"] - state.moments[1].mean(axis=0)
        return float(losses.mean(dtype=np.float64)), slopes

    def descend(
        self, x: Array, y: Array, weights: Any, steps: Sequence[int], batch_norm: str = "transductive"
    ) -> Iterator[Array]:
        """Parameters, (P,) or (T, P), after each of the ascending numbers of inner steps from theta."""
        support = task_set(self.net, x, y, weights, self.theta.dtype, loss=self.loss)
        walk = self._walk(support, steps[-1], np.random.default_rng(0), 0, 1)  # the same order for every task
        for k, (phi, _) in enumerate(walk):
            if k in steps:
                yield phi[0] if inputs.is_single(self.net, x) else phi

    def _walk(
        self, support: TaskSet, steps: int, rng: np.random.Generator, first: int, last: int
    ) -> Iterator[tuple[Array, State]]:
        """phi (T, P) and the state of the inner optimizer before the first inner step and after each.

        Tasks take the orders of samples first .. last - 1 that are drawn from `rng`.
        """
        tasks, samples = support.x.shape[:2]
        phi = np.tile(self.theta, (tasks, 1))
        second = self.parameters.get("second_moment")
        moments = () if second is None else (np.zeros_like(phi), np.tile(second, (tasks, 1)))
        state = State(self.training.step * self.inner_steps, moments)
        yield phi, state
        whole = self.inner_batch is None or self.inner_batch >= samples
        rows = None if whole else mini_batches(rng, last, samples, self.inner_batch or samples, steps)[first:]
        for k in range(steps):
            chosen = support if rows is None else _picked(support, rows[:, k])
            with naming_step(k + 1, steps):
                _, slopes = gradients.gradient(self.net, phi, *chosen[:3], loss=self.loss, device=self.device)
                phi, state = self._rule.update(phi, slopes, state)
                no_overflow(phi)
            yield phi, state


def mini_batches(rng: np.random.Generator, tasks: int, samples: int, size: int, steps: int) -> Rows:
    """(tasks, steps, size) sample numbers: a task's samples in random order, shuffled anew when all were taken."""
    rounds = -(-steps * size // samples)
    order = np.tile(np.arange(samples), (tasks, rounds, 1))
    return rng.permuted(order, axis=2).reshape(tasks, -1)[:, : steps * size].reshape(tasks, steps, size)


def _picked(data: TaskSet, rows: Rows) -> TaskSet:
    """Samples `rows` (T or 1, B) of each task."""
    tasks = np.arange(len(data.x))[:, None]
    weights = None if data.weights is None else data.weights[tasks, rows]
    return TaskSet(data.x[tasks, rows], data.y[tasks, rows], weights)
