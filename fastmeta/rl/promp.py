"""ProMP: several clipped updates on the same trajectories, with a penalty on how far inner policies move."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np

from fastmeta import checks
from fastmeta.learning import training
from fastmeta.learning.optimizers import Optimizer
from fastmeta.learning.settings import Setting
from fastmeta.learning.states import State, Training
from fastmeta.networks.network import Network
from fastmeta.rl.learner import Count, InnerRates, PolicyLearner, Sampled, Steps
from fastmeta.rl.trust_region import TrustRegion
from fastmeta_kernels.contract import Array


class ProMP(PolicyLearner):
    """mean_i [ clipped loss on D_S + kl_penalty sum_k KL(pi_k old || pi_phi_k) on D_k ], `outer_steps` updates of it.

    Each update adapts anew from the theta of its own with the likelihood ratio on the trajectories of this iteration;
    the optimizer is Adam(1e-3) by default. Source: Rothfuss et al. 2019, arXiv 1810.06784, algorithm 1.
    """

    word: ClassVar[str] = "promp"

    def __init__(
        self,
        net: Network,
        inner_lr: InnerRates = 0.1,
        inner_steps: Steps = 1,
        trajectories: Count = 20,
        clip: Annotated[float, Setting(float, "Ratios beyond 1 +- clip count no further.")] = 0.3,
        kl_penalty: Annotated[float, Setting(float, "Weight of the inner policies' KL.", 0)] = 5e-4,
        outer_steps: Annotated[int, Setting(int, "Updates on the trajectories of an iteration.")] = 5,
        baseline: str = "linear",
        discount: float = 0.99,
        gae: float = 1.0,
        order: int = 2,
        adapts: str = "all",
        device: str = "cpu",
    ) -> None:
        super().__init__(
            net, inner_lr, inner_steps, trajectories, "ratio", baseline, discount, gae, order, adapts, device
        )
        self.clip, self.kl_penalty = checks.positive("clip", clip), checks.not_negative("kl_penalty", kl_penalty)
        self.outer_steps = checks.integer("outer_steps", outer_steps, 1)

    def fit(self, tasks: Any, iterations: int, tasks_per_step: int = 20, *more: Any, **options: Any) -> Any:
        """As every learner of policies fits; TypeError for a trust region, which clipping replaces."""
        if isinstance(more[0] if more else options.get("optimizer"), TrustRegion):
            raise TypeError("optimizer=TrustRegion(...) must be of fm.rl.MAML: ProMP clips instead. Use fm.Adam(1e-3).")
        return super().fit(tasks, iterations, tasks_per_step, *more, **options)

    def gradients(self, sampled: Sampled, theta: Array, old: list[Array]) -> Array:
        """The gradient (P,) at `theta` of the loss above; `old` are the outputs of the policies on their D_k."""
        adaptation = sampled.adaptation.run(theta)
        added = [
            self.kl_penalty * samples.divergence_gradient(phi, outputs)
            for samples, phi, outputs in zip(adaptation.sets, adaptation.phis, old, strict=False)
        ]
        slopes = sampled.query.gradient(adaptation.phis[-1], "clip", self.clip)
        back, _ = adaptation.pull(slopes, added)
        mean: Array = back.mean(axis=0, dtype=np.float64)
        return mean

    def updated(self, sampled: Sampled, optimizer: Optimizer) -> tuple[Training, dict[str, float]]:
        adaptation, now = sampled.adaptation, self.training
        old = [s.outputs(phi) for s, phi in zip(adaptation.sets, adaptation.phis, strict=False)]
        first = sampled.query.outputs(adaptation.phis[-1])
        done = now.step * self.outer_steps  # the updates of earlier iterations: a checkpoint counts iterations
        state = now._replace(moments={name: State(done, m.moments) for name, m in now.moments.items()})
        for _ in range(self.outer_steps):
            slopes = {"theta": self.gradients(sampled, state.parameters["theta"], old).astype(self.theta.dtype)}
            state = training.advance(state, slopes, self.optimizers(optimizer))
        last = sampled.query.outputs(adaptation.run(state.parameters["theta"]).phis[-1])
        kl = float(sampled.query.divergence(first, last).mean())
        return state._replace(step=now.step + 1), {"kl": kl}
