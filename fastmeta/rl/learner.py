"""What the learners of policies share in training: sampling, and one update an iteration."""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import Annotated, Any, NamedTuple

import numpy as np

from fastmeta import checks
from fastmeta.floating import quiet
from fastmeta.learning.optimizers import Optimizer
from fastmeta.learning.settings import Setting
from fastmeta.learning.states import Training
from fastmeta.rl import policies
from fastmeta.rl.adaptation import Adaptation
from fastmeta.rl.adapting import AdaptingPolicy
from fastmeta.rl.baseline import Advantages, advantages
from fastmeta.rl.rollouts import check_fits, rollout
from fastmeta.rl.samples import Samples
from fastmeta.rl.trajectories import Trajectories
from fastmeta.rl.worlds.world import Noise, World, Worlds
from fastmeta_kernels.contract import Array

REJECTED = 10  # updates in a row without an accepted step that end a training
InnerRates = Annotated[Any, Setting(float, "Rate of the inner steps, with which a task is learned.")]
Steps = Annotated[int, Setting(int, "Inner steps in training.")]
Count = Annotated[int, Setting(int, "Trajectories of a task that an inner step is taken on.")]
Surrogate = Annotated[str, Setting(("ratio", "log"), "What inner steps lower, and so what the outer gradient sees.")]


class Sampled(NamedTuple):
    """What one iteration has sampled, and what it measured."""

    adaptation: Adaptation  # as it was sampled
    query: Samples  # of the adapted policies
    measured: dict[str, float]
    returns: Array  # (T,) mean return of each task after adaptation


class PolicyLearner(AdaptingPolicy):
    """A learner of policies: each task takes inner steps down the policy loss of its own trajectories.

    The tasks of `fit` and `evaluate` are a world, such as fm.rl.Navigation2D(). Every inner step samples trajectories
    of its own from the policy it begins with.
    """

    @abstractmethod
    def updated(self, sampled: Sampled, optimizer: Optimizer) -> tuple[Training, dict[str, float]]:
        """The training after the update that `sampled` gives, and what is worth noting of it."""

    @quiet
    def sampled(self, world: World, worlds: Worlds, noise: tuple[int, int], theta: Array) -> Sampled:
        """Adapt theta (P,) to `worlds` and sample the adapted policies; noise: seed and step of the random numbers."""
        start, sets, phi, adaptation = time.perf_counter(), [], theta, Adaptation((), np.zeros((0, theta.size)))
        tasks = len(next(iter(worlds.values())))
        seed, step = noise
        sampling, taken, measured = 0.0, 0, {}
        for k in range(self.inner_steps + 1):
            rng, begin = Noise(seed, [step] * tasks, k), time.perf_counter()
            thetas = np.repeat(phi[None], tasks, axis=0) if phi.ndim == 1 else phi
            data = rollout(self.net, thetas, world, worlds, self.trajectories, rng)
            found = self._advantages(data, last=k == self.inner_steps)
            sampling += time.perf_counter() - begin
            taken += data.steps
            samples = Samples.of(self.net, data, found.values, theta.dtype, self.device)
            if k == 0:
                outputs = samples.outputs(thetas)
                spread = policies.entropy(policies.kind(self.net), outputs)
                measured["return_before"] = float(data.returns.mean())
                measured["entropy"] = float((spread * samples.shares).mean())
            if k < self.inner_steps:
                sets.append(samples)
                rates = self._vector(k + 1, theta)
                adaptation = Adaptation(tuple(sets), rates, self.surrogate, self.order).run(theta)
                phi = adaptation.phis[-1]
        if not self.inner_steps:
            adaptation = Adaptation((), self._vector(0, theta), phis=[thetas])
        measured |= {"return_after": float(data.returns.mean()), "explained": found.explained}
        measured |= {"env_steps": float(taken), "seconds_sampling": sampling}
        measured["seconds_products"] = time.perf_counter() - start - sampling
        return Sampled(adaptation, samples, measured, data.returns.mean(axis=1))

    def fit(self, tasks: World, iterations: int, tasks_per_step: int = 20, *more: Any, **options: Any) -> Any:  # type: ignore[override]
        """Learn from `iterations` meta-batches of `tasks_per_step` tasks of a world; options as in `Learner.fit`.

        The loss in history and callback is minus the mean return after adaptation. `history` also has return_before,
        return_after, entropy (nats, of theta's policy), kl, accepted (the shrink of the step, 0: theta stays),
        explained (of the variance of the last returns, by the baseline), env_steps, seconds_sampling and
        seconds_products. Trajectories are pure functions of theta, seed and iteration. Raises DivergenceError where ten
        updates in a row were not accepted.
        """
        check_fits(self.net, tasks)
        if options.get("ranks") is not None:
            raise ValueError(f'ranks="{options["ranks"]}" must be left out: policies are trained in one process.')
        return super().fit(tasks, iterations, tasks_per_step, *more, **options)  # type: ignore[arg-type]

    def _iterate(self, tasks: Any, optimizer: Optimizer) -> float:
        start, step = time.perf_counter(), self.training.step
        seed, count = self._settings["seed"], self._settings["tasks_per_step"]
        worlds = tasks.sample(count, seed, step)
        sampled = self.sampled(tasks, worlds, (seed, step), self.theta)
        begin = time.perf_counter()
        with np.errstate(all="ignore"):
            after, noted = self.updated(sampled, optimizer)
        measured = sampled.measured | noted
        measured["seconds_products"] += time.perf_counter() - begin
        measured |= {"loss": -measured["return_after"], "seconds": time.perf_counter() - start}
        for name, value in measured.items():  # names that fastmeta.learning.checkpoint knows
            self._history.setdefault(name, np.zeros_like(self._history["loss"]))[step] = value
        last = self._history.get("accepted", np.ones(1))[max(0, step + 1 - REJECTED) : step + 1]
        if len(last) == REJECTED and not last.any():
            raise checks.DivergenceError(
                f"{REJECTED} updates in a row found no step that lowers the loss within the trust region. Take more "
                "trajectories or tasks_per_step, raise damping, or lower inner_lr."
            )
        self._training = after
        return float(measured["loss"])

    def _advantages(self, data: Trajectories, last: bool) -> Advantages:
        return advantages(data, self.discount, self.gae, self.baseline)
