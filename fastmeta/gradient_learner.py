"""What the learners that adapt by gradient steps share: the inner loop, its rates, evaluation after several steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmeta import evaluation, gradients, inputs
from fastmeta.adapted_model import AdaptedModel
from fastmeta.learner import Learner, check_evaluation
from fastmeta.networks import Network
from fastmeta.score import Score
from fastmeta.tasks.episode import Batch, TaskSource

Array = NDArray[Any]


class GradientLearner(Learner):
    """A learner whose tasks take `inner_steps` gradient steps of rate `inner_lr` from theta (P,).

    A number as inner_lr is positive; rates in an array may be negative or 0, as learned ones become.
    """

    def __init__(self, net: Network, inner_lr: ArrayLike, inner_steps: int, device: str) -> None:
        super().__init__(net, device)
        self.inner_lr = inputs.initial_rates(inner_lr)
        self.inner_steps = inputs.inner_steps(inner_steps, 1)

    @property
    def rates(self) -> float | Array:
        """The inner learning rates in use: the learned ones, otherwise the constructor's inner_lr."""
        return self.parameters.get("inner_lr", self.inner_lr)

    def first_theta(self, seed: int, theta: Any) -> Array:
        """theta (P,) or by default net.init(seed); raises where inner_lr does not fit the network."""
        first = super().first_theta(seed, theta)
        inputs.inner_loop(self.net, self.inner_lr, self.inner_steps, "all", first.dtype)
        return first

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
        check_evaluation(tasks, episodes, tasks_per_step)
        inner_steps = inner_steps.tolist() if isinstance(inner_steps, np.ndarray) else inner_steps
        asked = inner_steps if isinstance(inner_steps, Sequence) else [inner_steps]
        steps = [self.inner_steps if n is None else inputs.inner_steps(n) for n in asked]
        if not steps:
            raise ValueError(f"inner_steps={inner_steps} must not be empty. Name at least one number of steps.")
        values, measure = evaluation.episode_values(self._query_outputs, tasks, episodes, steps, seed, tasks_per_step)
        scores = {n: Score(values[n], measure, self.batch_norm) for n in steps}
        return scores if asked is inner_steps else scores[steps[0]]

    def query_outputs(self, batch: Batch) -> Array:
        """Outputs (T, M, O) of the query sets after the inner steps of training."""
        return self._query_outputs(batch, [self.inner_steps])[0]

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
