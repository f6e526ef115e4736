"""MAML++: MAML with what makes it train stably, each a switch (Antoniou, Edwards & Storkey 2019).

One file of more than 200 lines, because its switches act on each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from fastmeta import checks
from fastmeta.algorithms.maml import MAML, LearnInnerRates
from fastmeta.algorithms.maml_plus_plus.norm_statistics import (
    FixedNorms,
    by_name,
    norm_channels,
    norm_parameters,
    task_means,
)
from fastmeta.floating import quiet
from fastmeta.gradients import functions as gradients
from fastmeta.learning.adapted_model import AdaptedModel
from fastmeta.learning.gradient_learner import InnerRate, InnerSteps
from fastmeta.learning.inner_steps import step_rates
from fastmeta.learning.optimizers import SGD, Adam, Optimizer
from fastmeta.learning.schedules import CosineSchedule
from fastmeta.learning.settings import Setting, Share
from fastmeta.networks.losses import Loss
from fastmeta.networks.network import Network
from fastmeta.tasks.episode import Batch
from fastmeta_kernels.contract import Array

if TYPE_CHECKING:
    from fastmeta.gradients.block_gradients import BlockGradients
    from fastmeta.learning.states import BlockSlopes

MOMENTUM = 0.1  # share of a new batch in the running statistics
RECIPES: dict[str, dict[str, Any]] = {
    "": {"multi_step_iterations": Share("iterations", 10)},  # the first 10 of 100 epochs
    "sinusoid": {"inner_steps": 5},
    "omniglot": {"tasks_per_step": 8, "inner_lr": 0.1, "inner_steps": 5, "evaluation_steps": (5,)},
    "images": {"tasks_per_step": 2, "evaluation_steps": (5,)},
}


class MAMLPlusPlus(MAML):
    """MAML++ (arXiv 1810.09502, section 4). Every improvement can be switched off; without any it is MAML.

    learn_inner_lr: a rate for each inner step and parameter array, (S, V), all from inner_lr on.
    multi_step_iterations: for so many iterations the loss is a weighted sum of the query losses after each inner
    step, from equal weights to the last step alone, linearly; 0: off. first_order_iterations: so many iterations are
    of first order, the rest exact; 0: off. step_norms: batch norm has a scale and shift of its own before the first
    inner step and after each, which no inner step moves; by default where the network has batch norm.
    running_statistics: keep running means and variances of batch norm for each step, of support sets within and of
    query sets after the inner loop; evaluate(batch_norm="running") uses them, in the inner steps too. Training
    itself, and evaluation by default, is transductive. Cosine annealing is fit's default optimizer, Adam from 1e-3 to
    1e-5; rotated classes are those of fm.tasks.Omniglot.

    Raises ValueError or TypeError where an argument is out of range or asks for batch norm that the network does not
    have, DivergenceError where training diverges.

    >>> from fastmeta import Conv4, MAMLPlusPlus
    >>> MAMLPlusPlus(Conv4(channels=8), multi_step_iterations=1000).step_norms
    True
    """

    word = "maml++"
    batch_norm_modes = (*MAML.batch_norm_modes, "running")
    recipes: ClassVar = RECIPES

    def __init__(
        self,
        net: Network,
        inner_lr: InnerRate = 0.1,
        inner_steps: InnerSteps = 5,
        learn_inner_lr: LearnInnerRates = True,
        multi_step_iterations: Annotated[int, Setting(int, "Iterations with a loss after each inner step.", 0)] = 5000,
        first_order_iterations: Annotated[int, Setting(int, "First-order iterations at the start.", 0)] = 0,
        step_norms: Annotated[bool | None, Setting(bool, "Batch norm's scale and shift of each inner step.")] = None,
        running_statistics: Annotated[bool, Setting(bool, "Keep batch norm's statistics of each inner step.")] = False,
        device: str = "cpu",
        *,
        loss: Loss | None = None,
    ) -> None:
        super().__init__(net, inner_lr, inner_steps, learn_inner_lr, device, loss=loss)
        self.multi_step_iterations = checks.integer("multi_step_iterations", multi_step_iterations, 0)
        self.first_order_iterations = checks.integer("first_order_iterations", first_order_iterations, 0)
        self.step_norms = bool(self.batch_norm) if step_norms is None else checks.switch("step_norms", step_norms)
        self.running_statistics = checks.switch("running_statistics", running_statistics)
        _check(self)

    def default_optimizer(self, iterations: int) -> Optimizer:
        """Adam from 1e-3 to 1e-5 along a cosine."""
        return self.paper_optimizer(1e-3, iterations)

    def paper_optimizer(self, learning_rate: float, iterations: int) -> Optimizer:
        """Adam to a hundredth of its first rate along a cosine."""
        return Adam(CosineSchedule(learning_rate, learning_rate / 100, steps=max(iterations, 1)))

    def optimizers(self, optimizer: Optimizer) -> dict[str, Optimizer]:
        """`optimizer` for all but the running statistics, which move a tenth of the way to a batch's."""
        learned = dict.fromkeys(("theta", "inner_lr", "norms"), optimizer)
        return learned | {"statistics": SGD(MOMENTUM)}

    @quiet
    def initial_parameters(self, theta: Array, seed: int = 0) -> dict[str, Array]:
        """theta (P,), rates inner_lr (S, V), norms (S + 1, B) and statistics (S + 1, 2, C), those switched on."""
        net, rows = self.net, self.inner_steps + 1
        parameters = {"theta": theta}
        if self.learn_inner_lr:
            shape = (self.inner_steps, len(net.parameter_shapes))
            parameters["inner_lr"] = np.full(shape, self.inner_lr, theta.dtype)
        if self.step_norms:
            own = np.concatenate([net.views(theta)[name] for name in norm_parameters(net)])
            parameters["norms"] = np.tile(own, (rows, 1))
        if self.running_statistics:
            normal = np.repeat([[0.0], [1.0]], sum(norm_channels(net)), axis=1)  # (2, C)
            parameters["statistics"] = np.tile(normal, (rows, 1, 1)).astype(theta.dtype)
        return parameters

    def loss_weights(self, iteration: int) -> Array | None:
        """Weights (S + 1,) of the query losses at this iteration; None where only the last one counts."""
        left = 1 - iteration / self.multi_step_iterations if iteration < self.multi_step_iterations else 0
        return _annealed(left, self.inner_steps) if left else None

    def meta_gradients(self, batch: Batch) -> tuple[float, dict[str, Array]]:
        """The weighted query loss, its gradients, and how far the running statistics are from this batch's."""
        loss, slopes = super().meta_gradients(batch)
        if self.running_statistics:
            slopes["statistics"] = self.parameters["statistics"] - self._batch_statistics(batch)
        return loss, slopes

    def block_gradients(self, batch: Batch, blocks: Sequence[tuple[int, int]]) -> BlockSlopes | None:
        """The same of each block, in one call; None with running statistics."""
        return None if self.running_statistics else super().block_gradients(batch, blocks)

    def _asked(self) -> dict[str, Any]:
        iteration = self.training.step
        return super()._asked() | {
            "order": 1 if iteration < self.first_order_iterations else 2,
            "loss_weights": self.loss_weights(iteration),
            "step_parameters": self._norms(np.arange(self.inner_steps + 1)),
        }

    def _slopes(self, result: gradients.MetaGradient | BlockGradients) -> dict[str, Array]:
        slopes = super()._slopes(result)
        if self.step_norms:
            slopes["norms"] = np.concatenate(list(result.step_gradients.values()), axis=-1)
        return slopes

    def batch_norm_mode(self, asked: str | None) -> str:
        """ "transductive", "support", or "running" where there are running statistics."""
        if asked == "running" and self.batch_norm and not self.running_statistics:
            raise ValueError('batch_norm="running" must come with a learner trained with running_statistics=True.')
        return super().batch_norm_mode(asked)

    def descend(
        self, x: Array, y: Array, weights: Any, steps: Sequence[int], batch_norm: str = "transductive"
    ) -> Iterator[Array]:
        """Parameters, (P,) or (T, P), after each of the ascending numbers of inner steps from theta.

        With batch_norm "running" they are those of the network with fixed statistics.
        """
        net, phi, rates = self.net, self.theta, self.rates
        fixed = FixedNorms(net) if batch_norm == "running" else None
        if fixed is not None:
            net, phi, rates = fixed.network, fixed.widen(phi), fixed.widen(rates)
        for begin, end in pairwise([0, *steps]):
            rows = np.minimum(np.arange(begin, end + 1), self.inner_steps)
            own = self._norms(rows)
            if fixed is not None:
                own = {fixed.names[name]: values for name, values in own.items()}
                own |= fixed.statistics(self.parameters["statistics"][rows])
            at, more = step_rates(rates, begin, end), end - begin
            phi = gradients.adapt(
                net, phi, x, y, at, more, "all", weights, step_parameters=own, loss=self.loss, device=self.device
            )
            yield phi

    def model(self, phi: Array, x_support: Array, classifies: bool, batch_norm: str) -> AdaptedModel:
        """The network, or for "running" the one with fixed statistics, with adapted parameters phi."""
        if batch_norm == "running":
            return AdaptedModel(FixedNorms(self.net).network, phi, classifies, self.device)
        return super().model(phi, x_support, classifies, batch_norm)

    def _norms(self, rows: Array) -> dict[str, Array]:
        """The scales and shifts of some steps, by their names in net.views."""
        return by_name(self.net, self.parameters["norms"][rows]) if self.step_norms else {}

    def _batch_statistics(self, batch: Batch) -> Array:
        """(S + 1, 2, C): of the support sets before each inner step, of the query sets after the last; task means."""
        path = self.descend(batch.x_support, batch.y_support, batch.support_weights, range(self.inner_steps + 1))
        sets = [batch.x_support] * self.inner_steps + [batch.x_query]
        return np.stack([task_means(self.net, phi, x, self.device) for phi, x in zip(path, sets, strict=True)])


def _annealed(left: float, steps: int) -> Array:
    """Weights (S + 1,) of which `left` is still spread over the inner steps, and the rest is the last one's."""
    weights = np.full(steps + 1, left / steps)
    weights[0], weights[-1] = 0.0, 1 - (steps - 1) * (left / steps)
    return weights


def _check(learner: MAMLPlusPlus) -> None:
    """ValueError where the arguments do not fit the network."""
    net, rates = learner.net, np.shape(learner.inner_lr)
    for name in ("step_norms", "running_statistics"):
        if getattr(learner, name) and not learner.batch_norm:
            raise ValueError(f"{name}=True must come with a network that has batch norm. {net} has none.")
    wanted = (learner.inner_steps, len(net.parameter_shapes))
    if learner.learn_inner_lr and rates not in ((), wanted):
        raise ValueError(
            f"inner_lr of shape {rates} must be a number or {wanted} with learn_inner_lr=True: one rate for each "
            "inner step and parameter array."
        )
