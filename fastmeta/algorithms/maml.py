"""MAML: parameters from which a few gradient steps learn a task (Finn, Abbeel & Levine 2017)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from fastmeta import checks
from fastmeta.floating import quiet
from fastmeta.gradients.functions import MetaGradient, meta_gradient
from fastmeta.learning.gradient_learner import GradientLearner, InnerRate, InnerSteps
from fastmeta.learning.query_norms import QueryBatchNorm
from fastmeta.learning.settings import Setting
from fastmeta.networks.losses import Loss
from fastmeta.networks.network import Network
from fastmeta_kernels.contract import Array

if TYPE_CHECKING:
    from fastmeta.gradients.block_gradients import BlockGradients
    from fastmeta.learning.optimizers import Optimizer
    from fastmeta.learning.states import BlockSlopes
    from fastmeta.tasks.episode import Batch

LearnInnerRates = Annotated[bool, Setting(bool, "Learn the inner rates too.")]


class MAML(GradientLearner):
    """Model-agnostic meta-learning with the exact second-order meta-gradient (arXiv 1703.03400, algorithm 1).

    net: the network. inner_steps: gradient steps on the support set. inner_lr: their learning rate, a number
    or an array whose last axis is 1, V (one per entry of net.views) or P, with an optional first axis of
    inner_steps. learn_inner_lr: learn the rates too, from inner_lr on, by their gradient and the same
    optimizer (Li et al. 2017, Antoniou et al. 2019); they may become negative. device: "cpu" (Numba) or
    "numpy". loss: a description such as fm.SquaredError(); None: cross-entropy where a task's targets are integers,
    squared error where they are floats. Batch norm is transductive; with query_batch_norm="frozen" the query loss is
    that of a network which keeps the support set's statistics, with its exact gradient through these, and predictions
    are made so by default.

    Raises ValueError or TypeError where an argument is out of range, DivergenceError where training diverges.

    >>> from fastmeta import MAML, MLP, tasks
    >>> maml = MAML(MLP((1, 40, 40, 1)), inner_lr=0.01, inner_steps=1, device="numpy")
    >>> maml.fit(tasks.Sinusoid(), iterations=2).evaluate(tasks.Sinusoid(), episodes=4, inner_steps=5).measure
    'mse'
    """

    order = 2
    gpu_parameters = ("theta",)

    def __init__(
        self,
        net: Network,
        inner_lr: InnerRate = 0.01,
        inner_steps: InnerSteps = 1,
        learn_inner_lr: LearnInnerRates = False,
        device: str = "cpu",
        *,
        loss: Loss | None = None,
        query_batch_norm: QueryBatchNorm = None,
    ) -> None:
        super().__init__(net, inner_lr, inner_steps, device, loss, query_batch_norm)
        self.learn_inner_lr = checks.switch("learn_inner_lr", learn_inner_lr)

    @quiet
    def initial_parameters(self, theta: Array, seed: int = 0) -> dict[str, Array]:
        """theta (P,), and with learn_inner_lr the inner rates in inner_lr's shape, (1,) for a number."""
        rates = {"inner_lr": np.atleast_1d(self.inner_lr).astype(theta.dtype)} if self.learn_inner_lr else {}
        return super().initial_parameters(theta, seed) | rates

    def meta_gradients(self, batch: Batch) -> tuple[float, dict[str, Array]]:
        """The mean query loss after the inner steps, and its gradient by theta and any learned rates."""
        result = self._query()(self.net, self.theta, batch, **self._asked())
        return float(result.loss), self._slopes(result)

    def block_gradients(self, batch: Batch, blocks: Sequence[tuple[int, int]]) -> BlockSlopes | None:
        """The same of each block, in one call; None with frozen batch norm."""
        if self.query_batch_norm == "frozen":
            return None
        from fastmeta.gradients.block_gradients import block_gradients

        result = block_gradients(self.net, self.theta, batch, blocks, **self._asked())
        return result.loss, self._slopes(result)

    def _asked(self) -> dict[str, Any]:
        """What an iteration asks of `meta_gradient`."""
        inner = {"inner_lr": self.rates, "inner_steps": self.inner_steps, "order": self.order, "adapt": self.adapts}
        return inner | {"loss": self.loss, "device": self.device}

    def _slopes(self, result: MetaGradient | BlockGradients) -> dict[str, Array]:
        rates = {"inner_lr": np.asarray(result.inner_lr_gradient)} if self.learn_inner_lr else {}
        return {"theta": result.gradient} | rates

    def meta_updates(self, batch: Batch, optimizer: Optimizer, states: Array) -> Array | None:
        """Several updates in one call, where nothing but theta is learned, by Adam, and no class has another way."""
        from fastmeta.gradients.updates import meta_updates
        from fastmeta.learning.optimizers import Adam

        training, by = self.training, self.optimizers(optimizer)["theta"]
        own = type(self).meta_gradients, type(self)._asked
        plain = own == (MAML.meta_gradients, MAML._asked) and training.parameters.keys() == {"theta"}
        if not plain or self.query_batch_norm == "frozen" or type(by) is not Adam or by.clips or self.device != "cpu":
            return None
        state = training.moments["theta"]
        numbers = [by.numbers(state.step + i) for i in range(len(states) - 1)]
        states[0] = self.theta, *state.moments
        return meta_updates(self.net, states, batch, numbers, **self._asked())

    def update_settings(self) -> tuple[Any, ...]:
        """The arguments of the constructor that an update depends on."""
        return self.net, self.inner_lr, self.inner_steps, self.device, self.loss, self.query_batch_norm

    def _query(self) -> Callable[..., MetaGradient]:
        if self.query_batch_norm != "frozen":
            return meta_gradient
        from fastmeta.gradients.frozen_query import frozen_meta_gradient

        return frozen_meta_gradient


class FOMAML(MAML):
    """First-order MAML: the inner gradients count as constants (arXiv 1703.03400, section 5.2).

    Arguments, errors and results are MAML's. An iteration costs about 0.6 of MAML's with one inner step (1,000
    sinusoids), less with more, because its meta-gradient leaves out the second derivatives.
    """

    order = 1
