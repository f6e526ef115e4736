"""MAML for policies: exact meta-gradients, and a trust region outside."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Annotated, Any, ClassVar

import numpy as np

from fastmeta import checks
from fastmeta.learning import training
from fastmeta.learning.optimizers import Optimizer
from fastmeta.learning.settings import Setting
from fastmeta.learning.states import Training
from fastmeta.networks.network import Network
from fastmeta.rl.baseline import Advantages, advantages
from fastmeta.rl.learner import Count, InnerRates, PolicyLearner, Sampled, Steps, Surrogate
from fastmeta.rl.trajectories import Trajectories
from fastmeta.rl.trust_region import TrustRegion, step
from fastmeta_kernels.contract import Array

Order = Annotated[int, Setting(int, "2 is exact, 1 of first order.")]
Explores = Annotated[bool, Setting(bool, "Theta is paid for what its trajectories lead to.")]
Pooled = Annotated[bool, Setting(bool, "Advantages after adaptation are centred over all tasks, not each.")]


class MAML(PolicyLearner):
    """theta from which one policy gradient step does well: the return after it is raised, through the step.

    The outer update is fm.rl.TrustRegion() by default, as in the paper; fm.Adam works and has no trust region.
    surrogate="ratio" differentiates the likelihood ratio inside, which keeps how theta chooses what is explored;
    "log" is the published log-likelihood, whose meta-gradient does not see it. explores=True adds E-MAML's term (Stadie
    et al. 2018, arXiv 1803.01118). pooled=True centres the advantages after adaptation over all tasks. order=1: FOMAML.
    adapts="head" or "body": ANIL, BOIL. Source: Finn, Abbeel and Levine 2017, arXiv 1703.03400, algorithm 3.

    >>> from fastmeta import rl
    >>> rl.MAML(rl.gaussian_policy(2, 2, hidden=(20,)), inner_lr=0.5, device="numpy").trajectories
    20
    """

    word: ClassVar[str] = "maml-trpo"

    def __init__(
        self,
        net: Network,
        inner_lr: InnerRates = 0.5,
        inner_steps: Steps = 1,
        trajectories: Count = 20,
        surrogate: Surrogate = "ratio",
        baseline: str = "linear",
        discount: float = 0.99,
        gae: float = 1.0,
        order: Order = 2,
        adapts: str = "all",
        explores: Explores = False,
        pooled: Pooled = False,
        device: str = "cpu",
    ) -> None:
        super().__init__(
            net, inner_lr, inner_steps, trajectories, surrogate, baseline, discount, gae, order, adapts, device
        )
        self.explores, self.pooled = bool(explores), bool(pooled)

    def default_optimizer(self, iterations: int) -> Optimizer:
        return TrustRegion()

    def paper_optimizer(self, learning_rate: float, iterations: int) -> Optimizer:
        return TrustRegion()

    def fit(self, tasks: Any, iterations: int, tasks_per_step: int = 20, *more: Any, **options: Any) -> Any:
        """As every learner of policies fits; warns where the optimizer has no trust region."""
        optimizer = more[0] if more else options.get("optimizer")
        if isinstance(optimizer, Optimizer) and not isinstance(optimizer, TrustRegion):
            warnings.warn(f"{type(optimizer).__name__} has no trust region: updates may be large.", stacklevel=2)
        return super().fit(tasks, iterations, tasks_per_step, *more, **options)

    def gradients(self, sampled: Sampled) -> Array:
        """The meta-gradient (P,) of the mean loss after adaptation: exact, or of first order."""
        adaptation, query = sampled.adaptation, sampled.query
        slopes = query.gradient(adaptation.phis[-1], "ratio")
        back, _ = adaptation.pull(slopes)
        if self.explores and adaptation.sets:
            back = back + self._exploration(sampled)
        mean: Array = back.mean(axis=0, dtype=np.float64)
        return mean

    def updated(self, sampled: Sampled, optimizer: Optimizer) -> tuple[Training, dict[str, float]]:
        gradient = self.gradients(sampled)
        if not isinstance(optimizer, TrustRegion):
            slopes = {"theta": gradient.astype(self.theta.dtype)}
            return training.advance(self.training, slopes, self.optimizers(optimizer)), {}
        if not np.isfinite(gradient).all():
            raise checks.DivergenceError("the meta-gradient of theta is not finite. Lower inner_lr.")
        old = sampled.query.outputs(sampled.adaptation.phis[-1])
        trial = partial(self._trial, sampled, old)
        before = float(sampled.query.ratio_loss(old).mean())
        done = step(optimizer, sampled.adaptation, sampled.query, self.theta, gradient, before, trial)
        after = Training(self.training.step + 1, {"theta": done.theta}, self.training.moments)
        return after, {"kl": done.kl, "accepted": done.accepted}

    def _trial(self, sampled: Sampled, old: Array, theta: Array) -> tuple[float, float]:
        """Loss and mean KL(old || new) after theta (P,) has adapted to the same trajectories."""
        outputs = sampled.query.outputs(sampled.adaptation.run(theta).phis[-1])
        loss = sampled.query.ratio_loss(outputs).mean()
        return float(loss), float(sampled.query.divergence(old, outputs).mean())

    def _exploration(self, sampled: Sampled) -> Array:
        """(T, P): the slope at theta of the log-likelihood of the first trajectories, weighted by the task's return."""
        first, phi = sampled.adaptation.sets[0], sampled.adaptation.phis[0]
        centred = sampled.returns - sampled.returns.mean()
        gain = centred / (centred.std() + 1e-8)
        weighted = first.with_weights((gain[:, None] * first.shares).astype(phi.dtype))
        return weighted.gradient(phi, "log")

    def _advantages(self, data: Trajectories, last: bool) -> Advantages:
        return advantages(data, self.discount, self.gae, self.baseline, pooled=self.pooled and last)


class Pretrained(MAML):
    """One policy trained on all tasks without inner steps, from which tasks are then adapted: the baseline of MAML."""

    word: ClassVar[str] = "pretrained"

    def __init__(
        self,
        net: Network,
        inner_lr: InnerRates = 0.5,
        trajectories: Count = 20,
        baseline: str = "linear",
        discount: float = 0.99,
        gae: float = 1.0,
        device: str = "cpu",
    ) -> None:
        super().__init__(net, inner_lr, 0, trajectories, "log", baseline, discount, gae, device=device)
