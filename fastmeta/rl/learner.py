"""What the learners of policies share: sampling, inner steps, evaluation after several of them.

One file of more than 200 lines, because the life of a learner with its arguments is explained in one place.
"""

from __future__ import annotations

import hashlib
import time
from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np

from fastmeta import checks, inputs
from fastmeta.floating import quiet
from fastmeta.learning.learner import Learner
from fastmeta.learning.optimizers import Optimizer
from fastmeta.learning.settings import Setting
from fastmeta.learning.training import Training
from fastmeta.networks.network import Network
from fastmeta.rl import policies
from fastmeta.rl.adaptation import Adaptation
from fastmeta.rl.baseline import BASELINES, Advantages, advantages
from fastmeta.rl.models import PolicyModel
from fastmeta.rl.rollouts import check_fits, rollout
from fastmeta.rl.samples import Samples
from fastmeta.rl.trajectories import Trajectories
from fastmeta.rl.worlds.world import Noise, World, Worlds
from fastmeta.scores.score import Score
from fastmeta.tasks.episode import Batch
from fastmeta_kernels.contract import Array

ADAPTS = ("all", "head", "body")
EVALUATION = 1_000  # parts of the noise that evaluation uses begin here
REJECTED = 10  # updates in a row without an accepted step that end a training
InnerRates = Annotated[Any, Setting(float, "Rate of the inner steps, with which a task is learned.")]
Steps = Annotated[int, Setting(int, "Inner steps in training.")]
Count = Annotated[int, Setting(int, "Trajectories of a task that an inner step is taken on.")]
Surrogate = Annotated[str, Setting(("ratio", "log"), "What inner steps lower; decides what the meta-gradient sees.")]


class Sampled(NamedTuple):
    """What one iteration has sampled, and what it measured."""

    adaptation: Adaptation  # as it was sampled
    query: Samples  # of the adapted policies
    measured: dict[str, float]
    returns: Array  # (T,) mean return of each task after adaptation


class PolicyLearner(Learner):
    """A learner of policies: each task takes inner steps down the policy loss of its own trajectories.

    The tasks of `fit` and `evaluate` are a world, such as fm.rl.Navigation2D(). Every inner step samples trajectories
    of its own from the policy it begins with. inner_lr: a number, or one a step, of which the last repeats.
    """

    family: ClassVar[str] = "rl."
    devices: ClassVar[tuple[str, ...]] = ("numpy",)  # Append, policy losses and Fisher products are there
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
        self.inner_lr = _rates("inner_lr", inner_lr)
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
                adaptation = Adaptation(tuple(sets), self._vector(k + 1), self.surrogate, self.order).run(theta)
                phi = adaptation.phis[-1]
        if not self.inner_steps:
            adaptation = Adaptation((), self._vector(0), phis=[thetas])
        measured |= {"return_after": float(data.returns.mean()), "explained": found.explained}
        measured |= {"env_steps": float(taken), "seconds_sampling": sampling}
        measured["seconds_products"] = time.perf_counter() - start - sampling
        return Sampled(adaptation, samples, measured, data.returns.mean(axis=1))

    @quiet
    def adapt(self, trajectories: Trajectories, inner_lr: Any = None) -> PolicyModel:
        """The policy of the task on which `trajectories` were sampled by theta, after one inner step.

        inner_lr: by default that of training's first step. Further steps need trajectories of the adapted policy;
        `evaluate` takes them.
        """
        if not isinstance(trajectories, Trajectories):
            raise TypeError(f"trajectories={trajectories!r} must be a fm.rl.Trajectories. Make one of your arrays.")
        self._check_trajectories(trajectories)
        tasks = len(trajectories.rewards)
        rates = self.inner_lr if inner_lr is None else _rates("inner_lr", inner_lr)
        phi = self._stepped(np.repeat(self.theta[None], tasks, axis=0), trajectories, _nth(rates, 0))
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
    ) -> Any:
        """The mean return of each task's trajectories after inner steps, each on trajectories of its own.

        Task i is tasks.sample(1, seed=seed, step=i), its random numbers the same for every algorithm. Several
        inner_steps, as in (0, 1, 2, 3), give {inner steps: Score}. inner_lr: a number or one a step, of which the last
        repeats, as in [0.5, 0.25] of the MAML paper's test; trajectories: of each step, by default those of training.
        """
        check_fits(self.net, tasks)
        checks.integer("episodes", episodes, 1)
        asked = list(inner_steps) if isinstance(inner_steps, Sequence) else [inner_steps]
        steps = [self.inner_steps if n is None else checks.integer("inner_steps", n, 0) for n in asked]
        if not steps:
            raise ValueError("inner_steps=[] must not be empty. Name at least one number of steps.")
        rates = self.inner_lr if inner_lr is None else _rates("inner_lr", inner_lr)
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
        rates, found = _rates("inner_lr", inner_lr), []
        phi = np.repeat(self.theta[None], len(places), axis=0)
        for k in range(steps + 1):
            rng = Noise(seed, places, EVALUATION + k, [0] * len(places))
            found.append(rollout(self.net, phi, world, worlds, count, rng))
            if k < steps:
                phi = self._stepped(phi, found[-1], _nth(rates, k))
        return found

    def meta_gradients(self, batch: Batch) -> tuple[float, dict[str, Array]]:
        """Refused: a policy's gradient needs a world; `fit` and `sampled` take one."""
        raise TypeError("batch must be a world: policies learn from trajectories. Use fit(fm.rl.Navigation2D(), ...).")

    def query_outputs(self, batch: Batch) -> Array:
        """Refused, as `meta_gradients` is."""
        raise TypeError("batch must be a world: policies are judged by their returns. Use evaluate.")

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
        for name, value in measured.items():
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

    def _stepped(self, phi: Array, data: Trajectories, rate: float) -> Array:
        """phi (T, P) after one inner step on `data`."""
        found = advantages(data, self.discount, self.gae, self.baseline)
        samples = Samples.of(self.net, data, found.values, phi.dtype, self.device)
        moved: Array = (phi - rate * self._mask() * samples.gradient(phi, "log")).astype(phi.dtype)
        return moved

    def _vector(self, steps: int) -> Array:
        """Rates (steps, P), 0 where a parameter is not adapted."""
        rates = np.array([_nth(self.inner_lr, k) for k in range(steps)]).reshape(steps, 1)
        vector: Array = (rates * self._mask()).astype(self.theta.dtype)
        return vector

    def _mask(self) -> Array:
        """(P,): 1 where a parameter is adapted. The head is the last linear layer and what is appended behind it."""
        adapted = np.ones(self.net.parameter_count)
        if self.adapts != "all":
            begin, _ = self.net.head
            adapted[slice(0, begin) if self.adapts == "head" else slice(begin, None)] = 0
        return adapted

    def _check_trajectories(self, data: Trajectories) -> None:
        policy, wide = policies.kind(self.net), policies.width(self.net)
        if (data.actions.dtype.kind == "f") != (policy == "gaussian"):
            wanted = "floats" if policy == "gaussian" else "whole numbers"
            raise TypeError(f"actions of dtype {data.actions.dtype} must be {wanted} for a {policy} policy.")
        if policy == "gaussian" and data.actions.shape[3] != wide:
            raise ValueError(f"actions are {data.actions.shape[3]} wide but must be {wide}, as the policy's are.")
        if policy == "categorical" and not 0 <= data.actions.min() <= data.actions.max() < wide:
            raise ValueError(f"actions must be 0 .. {wide - 1}; one is not. The policy has {wide} outputs.")
        if data.observations.shape[3:] != self.net.input_shape:
            raise ValueError(f"observations of width {data.observations.shape[3]} must be {self.net.input_shape[0]}.")


def joined(parts: list[Worlds]) -> Worlds:
    """The tasks of several worlds' parameters as one."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _nth(rates: Any, k: int) -> float:
    return float(rates[min(k, len(rates) - 1)] if isinstance(rates, list) else rates)


def _rates(name: str, value: Any) -> Any:
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
