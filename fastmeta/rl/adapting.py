"""What the learners of policies know of a task: inner steps on its trajectories, and returns after several of them."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from fastmeta import checks, inputs
from fastmeta import device as devices
from fastmeta.floating import quiet
from fastmeta.learning.learner import Learner
from fastmeta.networks.network import Network
from fastmeta.rl import policies
from fastmeta.rl.adaptation import adapted
from fastmeta.rl.baseline import BASELINES, advantages
from fastmeta.rl.models import PolicyModel
from fastmeta.rl.rollouts import check_fits, rollout
from fastmeta.rl.samples import Samples, check_actions
from fastmeta.rl.trajectories import Trajectories
from fastmeta.rl.worlds.world import Noise, World, Worlds
from fastmeta.scores.score import Score
from fastmeta.tasks.episode import Batch
from fastmeta_kernels.contract import Array

ADAPTS = ("all", "head", "body")
EVALUATION = 1_000  # parts of the noise that evaluation uses begin here


class AdaptingPolicy(Learner):
    """A learner whose tasks take policy gradient steps from theta (P,), each on trajectories of its own.

    inner_lr: a number, or one a step, of which the last repeats.
    """

    family: ClassVar[str] = "rl."
    network_outputs: ClassVar[str] = "policy"

    def __init__(
        self,
        net: Network,
        inner_lr: Any,
        inner_steps: int,
        trajectories: int,
        surrogate: str,
        baseline: str,
        discount: float,
        gae: float,
        order: int,
        adapts: str,
        device: str,
    ) -> None:
        super().__init__(net, device)
        policies.kind(net)  # or raise
        self.inner_lr = checked_rates("inner_lr", inner_lr)
        self.inner_steps = checks.integer("inner_steps", inner_steps, 0)
        self.trajectories = checks.integer("trajectories", trajectories, 1)
        self.surrogate = checks.choice("surrogate", surrogate, ("ratio", "log"))
        self.baseline = checks.choice("baseline", baseline, BASELINES)
        self.discount, self.gae = (_share(name, value) for name, value in (("discount", discount), ("gae", gae)))
        if order not in (1, 2):
            raise ValueError(f"order={order!r} must be 2 (exact) or 1 (first order).")
        self.order = int(order)
        self.adapts = checks.choice("adapts", adapts, ADAPTS)

    def first_theta(self, seed: int, theta: Any) -> Array:
        """theta (P,) or by default net.init(seed)."""
        return self.net.init(seed) if theta is None else inputs.parameters(self.net, theta, device=self.device).copy()

    @quiet
    def adapt(self, trajectories: Trajectories, inner_lr: Any = None) -> PolicyModel:
        """The policy of the task on which `trajectories` were sampled by theta, after one inner step.

        inner_lr: by default that of training's first step. Further steps need trajectories of the adapted policy;
        `evaluate` takes them.
        """
        if not isinstance(trajectories, Trajectories):
            raise TypeError(f"trajectories={trajectories!r} must be a fm.rl.Trajectories. Make one of your arrays.")
        check_actions(self.net, trajectories)
        tasks = len(trajectories.rewards)
        rates = self.inner_lr if inner_lr is None else checked_rates("inner_lr", inner_lr)
        learner = self
        if self.any_device and devices.starts_faster_with_numpy(self.net.table, trajectories.rewards.size):
            learner = copy.copy(self)
            learner.device = "numpy"
        phi = learner._stepped(np.repeat(self.theta[None], tasks, axis=0), trajectories, nth(rates, 0))
        return PolicyModel(self.net, phi[0] if tasks == 1 else phi)

    def evaluate(  # type: ignore[override]
        self,
        tasks: World,
        episodes: int = 40,
        inner_steps: int | Sequence[int] | None = None,
        inner_lr: Any = None,
        trajectories: int | None = None,
        *,
        seed: int = 1,
        tasks_per_step: int = 40,
        ranks: None = None,
    ) -> Any:
        """The mean return of each task's trajectories after inner steps, each on trajectories of its own.

        Task i is tasks.sample(1, seed=seed, step=i), its random numbers the same for every algorithm. Several
        inner_steps, as in (0, 1, 2, 3), give {inner steps: Score}. inner_lr: a number or one a step, of which the last
        repeats, as in [0.5, 0.25] of the MAML paper's test; trajectories: of each step, by default those of training.
        ranks: None, policies are evaluated in one process.
        """
        check_fits(self.net, tasks)
        checks.integer("episodes", episodes, 1)
        asked = list(inner_steps) if isinstance(inner_steps, Sequence) else [inner_steps]
        steps = [self.inner_steps if n is None else checks.integer("inner_steps", n, 0) for n in asked]
        if not steps:
            raise ValueError("inner_steps=[] must not be empty. Name at least one number of steps.")
        rates = self.inner_lr if inner_lr is None else checked_rates("inner_lr", inner_lr)
        count = self.trajectories if trajectories is None else checks.integer("trajectories", trajectories, 1)
        values, digest = np.zeros((max(steps) + 1, episodes)), hashlib.sha256()
        for begin in range(0, episodes, checks.integer("tasks_per_step", tasks_per_step, 1)):
            span = list(range(begin, min(begin + tasks_per_step, episodes)))
            worlds = joined([tasks.sample(1, seed, i) for i in span])
            for name, part in worlds.items():
                digest.update(f"{name} {part.dtype} {part.shape}".encode() + np.ascontiguousarray(part).data)
            for k, data in enumerate(self.attempts(tasks, worlds, max(steps), rates, count, seed, span)):
                values[k, span] = data.returns.mean(axis=1)
        found = {n: Score(values[n], "return", "", digest.hexdigest()[:16]) for n in steps}
        return found if isinstance(inner_steps, Sequence) else found[steps[0]]

    @quiet
    def attempts(
        self, world: World, worlds: Worlds, steps: int, inner_lr: Any, count: int, seed: int, places: list[int]
    ) -> list[Trajectories]:
        """Trajectories after 0, 1 .. `steps` inner steps on `worlds`, the episodes `places` of an evaluation's seed."""
        rates, found = checked_rates("inner_lr", inner_lr), []
        phi = np.repeat(self.theta[None], len(places), axis=0)
        for k in range(steps + 1):
            rng = Noise(seed, places, EVALUATION + k, [0] * len(places))
            found.append(rollout(self.net, phi, world, worlds, count, rng))
            if k < steps:
                phi = self._stepped(phi, found[-1], nth(rates, k))
        return found

    def meta_gradients(self, batch: Batch) -> tuple[float, dict[str, Array]]:
        """Refused: a policy's gradient needs a world; `fit` and `sampled` take one."""
        raise TypeError("batch must be a world: policies learn from trajectories. Use fit(fm.rl.Navigation2D(), ...).")

    def query_outputs(self, batch: Batch) -> Array:
        """Refused, as `meta_gradients` is."""
        raise TypeError("batch must be a world: policies are judged by their returns. Use evaluate.")

    def _vector(self, steps: int, theta: Array) -> Array:
        """Rates (steps, P), 0 where a parameter is not adapted."""
        rates = np.array([nth(self.inner_lr, k) for k in range(steps)]).reshape(steps, 1)
        return np.asarray(rates * adapted(self.net, self.adapts), theta.dtype)

    def _stepped(self, phi: Array, data: Trajectories, rate: float) -> Array:
        """phi (T, P) after one inner step on `data`."""
        found = advantages(data, self.discount, self.gae, self.baseline)
        samples = Samples.of(self.net, data, found.values, phi.dtype, self.device)
        moved: Array = (phi - rate * adapted(self.net, self.adapts) * samples.gradient(phi, "log")).astype(phi.dtype)
        return moved


def joined(parts: list[Worlds]) -> Worlds:
    """The tasks of several worlds' parameters as one."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def nth(rates: Any, k: int) -> float:
    return float(rates[min(k, len(rates) - 1)] if isinstance(rates, list) else rates)


def checked_rates(name: str, value: Any) -> Any:
    given = checks.array(name, value)
    if given.ndim == 0:
        return checks.positive(name, given.item())
    if given.ndim != 1 or not given.size:
        raise ValueError(f"{name} of shape {given.shape} must be a number, or a list of one a step.")
    return [checks.positive(f"{name}[{i}]", rate) for i, rate in enumerate(given.tolist())]


def _share(name: str, value: Any) -> float:
    number = checks.not_negative(name, value)
    if number > 1:
        raise ValueError(f"{name}={value} must be at most 1. Use 0.99, for example.")
    return number
