"""What the learners that adapt by gradient steps share: the inner loop, its rates, evaluation after several steps."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, overload

from numpy.typing import ArrayLike

from fastmeta import device as devices
from fastmeta import inputs
from fastmeta.floating import quiet
from fastmeta.gradients import functions as gradients
from fastmeta.gradients.task_sets import batch_sets
from fastmeta.learning import adapted_model, query_norms
from fastmeta.learning.adapted_model import AdaptedModel
from fastmeta.learning.inner_steps import asked_steps, step_rates
from fastmeta.learning.learner import Learner
from fastmeta.learning.settings import Setting
from fastmeta.learning.support import support
from fastmeta.networks import losses
from fastmeta.networks.losses import Loss
from fastmeta.networks.network import Network
from fastmeta_kernels.contract import Array

if TYPE_CHECKING:
    from fastmeta.scores.score import Score
    from fastmeta.tasks.episode import Batch, TaskSource

INNER_RATE = Setting(float, "Rate of the inner steps, with which a task is learned.")
InnerRate = Annotated[ArrayLike, INNER_RATE]
InnerSteps = Annotated[int, Setting(int, "Inner steps in training.")]


class GradientLearner(Learner):
    """A learner whose tasks take `inner_steps` gradient steps of rate `inner_lr` from theta (P,).

    A number as inner_lr is positive; rates in an array may be negative or 0, as learned ones become. loss: a
    description such as fm.SquaredError(); None: cross-entropy where targets are integers, squared error of floats.
    A subclass that takes other steps gives `descend`.
    """

    adapts: ClassVar[str] = "all"  # "head": the last linear layer alone; "body": all but that
    batch_norm_modes: ClassVar[tuple[str, ...]] = ("transductive", "support", "frozen")

    def __init__(
        self,
        net: Network,
        inner_lr: ArrayLike,
        inner_steps: int,
        device: str,
        loss: Loss | None = None,
        query_batch_norm: str | None = None,
    ) -> None:
        super().__init__(net, device)
        self.loss = losses.checked(loss)
        self.query_batch_norm = query_norms.checked(query_batch_norm, super().batch_norm, net, device)
        self.inner_lr = inputs.initial_rates(inner_lr)
        self.inner_steps = inputs.inner_steps(inner_steps, 1)
        inputs.adapted_range(net, self.adapts)  # or raise

    @property
    def batch_norm(self) -> str:
        """Whose statistics predictions use by default: those that training did; "" where there is no batch norm."""
        return self.query_batch_norm or super().batch_norm

    @property
    def rates(self) -> float | Array:
        """The inner learning rates in use: the learned ones, otherwise the constructor's inner_lr."""
        return self.parameters.get("inner_lr", self.inner_lr)

    def first_theta(self, seed: int, theta: Any) -> Array:
        """theta (P,) or by default net.init(seed); raises where inner_lr does not fit the network."""
        first = super().first_theta(seed, theta)
        inputs.inner_loop(self.net, self.inner_lr, self.inner_steps, self.adapts, first.dtype)
        return first

    @quiet
    def adapt(
        self,
        x_support: Any,
        y_support: Any,
        inner_steps: int | None = None,
        weights: ArrayLike | None = None,
        batch_norm: str | None = None,
    ) -> AdaptedModel:
        """A model of the task of which x (N, ...) and y, labels (N,) or targets (N, O), are samples.

        Labels may be names, which it then predicts; x may be pictures where the learner was trained on such.
        x of uint8 are pixels, divided by 255 as in training. inner_steps: by default those of training; there may be
        more (what each step has of its own then repeats the last step's), and 0 leaves theta as it is. weights (N,)
        multiply each sample's loss. (T, N, ...) data adapt to T tasks at once. batch_norm as in `evaluate`. Raises
        DivergenceError, naming the inner step.
        """
        steps = self.inner_steps if inner_steps is None else inputs.inner_steps(inner_steps)
        given = support(x_support, y_support, self.preparation)
        x, y = given.x, given.y
        mode = self.batch_norm_mode(batch_norm)
        learner = self
        if self.any_device and devices.starts_faster_with_numpy(self.net.table, y.size * (steps + 1)):
            learner = copy.copy(self)
            learner.device = "numpy"
        (phi,) = learner.descend(x, y, weights, [steps], mode)
        model = given.told(learner.model(phi, x, losses.of(self.loss, y).labelled, mode))
        return model._replace(together=y.shape[0 if phi.ndim == 1 else 1]) if mode == "transductive" else model

    @overload
    def evaluate(
        self,
        tasks: TaskSource,
        episodes: int = ...,
        inner_steps: int | None = ...,
        seed: int = ...,
        tasks_per_step: int = ...,
        batch_norm: str | None = ...,
        ranks: str | None = ...,
    ) -> Score: ...
    @overload
    def evaluate(
        self,
        tasks: TaskSource,
        episodes: int = ...,
        inner_steps: Sequence[int] | Array = ...,
        seed: int = ...,
        tasks_per_step: int = ...,
        batch_norm: str | None = ...,
        ranks: str | None = ...,
    ) -> dict[int, Score]: ...
    def evaluate(
        self,
        tasks: TaskSource,
        episodes: int = 600,
        inner_steps: int | Sequence[int] | Array | None = None,
        seed: int = 1,
        tasks_per_step: int = 25,
        batch_norm: str | None = None,
        ranks: str | None = None,
    ) -> Score | dict[int, Score]:
        """Adapt to each episode's support set and score its query set: accuracy, or mean squared error.

        Episode i is tasks.sample(1, seed=seed, step=i), the same for every algorithm; use another seed than
        in fit. `tasks_per_step` episodes are computed together, which bounds the memory, no more.
        Several inner_steps, as in (1, 5, 10), cost as much as the most and give {inner steps: Score}.
        batch_norm: whose statistics the predictions use: "transductive" (by default), those of the whole query
        set; "support", those of the support set and the one query sample (arXiv 1803.02999, section 6); or "frozen",
        those of the support set alone. ranks: "mpi" shares episodes among the processes of mpiexec, to equal scores.
        Raises DivergenceError, naming the episodes.
        """
        from fastmeta.scores import evaluation

        steps, several = asked_steps(inner_steps, self.inner_steps)
        mode = self.batch_norm_mode(batch_norm)
        given = tasks, episodes, steps, seed, tasks_per_step, self.loss, ranks, self, mode
        found = evaluation.episode_values(partial(self._query_outputs, batch_norm=mode), *given)
        scores = {n: found.score(n, mode) for n in steps}
        return scores if several else scores[steps[0]]

    def query_outputs(self, batch: Batch) -> Array:
        """Outputs (T, M, O) of the query sets after the inner steps of training."""
        return self._query_outputs(batch, [self.inner_steps], self.batch_norm)[0]

    def descend(
        self, x: Array, y: Array, weights: Any, steps: Sequence[int], batch_norm: str = "transductive"
    ) -> Iterator[Array]:
        """Parameters, (P,) or (T, P), after each of the ascending numbers of inner steps from theta."""
        phi = self.theta
        for begin, end in pairwise([0, *steps]):
            if end > begin:
                rates = step_rates(self.rates, begin, end)
                more, data = end - begin, (x, y)
                phi = gradients.adapt(
                    self.net, phi, *data, rates, more, self.adapts, weights, loss=self.loss, device=self.device
                )
            yield phi

    def model(self, phi: Array, x_support: Array, classifies: bool, batch_norm: str) -> AdaptedModel:
        """The network with adapted parameters phi, (P,) or (T, P)."""
        return adapted_model.of(self.net, phi, x_support, classifies, batch_norm, self.device)

    def _query_outputs(self, batch: Batch, steps: Sequence[int], batch_norm: str) -> list[Array]:
        """Outputs (T, M, O) of the query sets after each of the ascending inner steps."""
        support, query = batch_sets(self.net, batch, self.theta.dtype, loss=self.loss)
        phis = self.descend(*support[:3], steps, batch_norm)
        return [self.model(phi, support.x, True, batch_norm).outputs(query.x) for phi in phis]
