"""What a world is: tasks as arrays, and what happens in all their trajectories at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from fastmeta import checks
from fastmeta_kernels.contract import Array

Worlds = dict[str, Array]  # the parameters of T tasks by name, (T, ...) each
_TASKS, _NOISE = 0x3A11, 0x90E5  # keep the streams of tasks, noise and other draws apart


class World(ABC):
    """A family of decision problems; a subclass draws tasks and steps R trajectories of each of T tasks at once.

    `observations` is the width of an observation; `actions` the number of actions of a `discrete` world, else the
    width of one. A trajectory ends after `horizon` steps, or where `step` says done. All methods are pure functions of
    their arguments and of the draws of `rng`, whose shapes begin with (T, ...): no task's draws depend on others.
    """

    horizon: int
    observations: int
    actions: int
    discrete: bool = False

    @abstractmethod
    def sample(self, tasks: int, seed: int, step: int = 0) -> Worlds:
        """The parameters of `tasks` tasks: a pure function of (seed, step); `stream` gives its random numbers."""

    @abstractmethod
    def reset(self, worlds: Worlds, trajectories: int, rng: Noise) -> Any:
        """The state in which all trajectories begin, by default also what is observed: (T, R, ...)."""

    @abstractmethod
    def step(self, worlds: Worlds, state: Any, actions: Array, rng: Noise) -> tuple[Any, Array, Array]:
        """The next state, the rewards (T, R) and which trajectories are done (T, R), after actions (T, R, A) or (T, R).

        Trajectories that are done are stepped on; what they give then does not count.
        """

    def observe(self, worlds: Worlds, state: Any) -> Array:
        """What the policy sees of the state: (T, R, observations)."""
        seen: Array = state
        return seen


class Noise:
    """Random numbers of T tasks, each from a stream of its own: arrays whose first axis is T."""

    def __init__(self, seed: int, steps: list[int], part: int, places: list[int] | None = None) -> None:
        places = list(range(len(steps))) if places is None else places
        self._streams = [np.random.default_rng((seed, s, part, i, _NOISE)) for s, i in zip(steps, places, strict=True)]

    def random(self, shape: tuple[int, ...]) -> Array:
        """Uniform on [0, 1), float64, of shape (T, ...)."""
        return np.stack([rng.random(shape[1:]) for rng in self._streams])

    def standard_normal(self, shape: tuple[int, ...]) -> Array:
        """Standard normal, float64, of shape (T, ...)."""
        found = np.empty(shape)
        for rng, part in zip(self._streams, found, strict=True):
            rng.standard_normal(out=part)
        return found


def stream(seed: int, step: int) -> np.random.Generator:
    """The random stream of one call of a world's `sample`; seed and step are whole numbers of at least 0."""
    return np.random.default_rng((checks.integer("seed", seed, 0), checks.integer("step", step, 0), _TASKS))


class Informed(World):
    """`world` with the task's parameters behind each observation: what a policy could reach that knew its task.

    Such a policy has nothing to find out; its return is the ceiling of adaptation.
    """

    def __init__(self, world: World) -> None:
        self.world, self.horizon, self.actions = world, world.horizon, world.actions
        self.discrete = world.discrete
        known = world.sample(1, 0)
        self.observations = world.observations + sum(values[0].size for values in known.values())

    def sample(self, tasks: int, seed: int, step: int = 0) -> Worlds:
        return self.world.sample(tasks, seed, step)

    def reset(self, worlds: Worlds, trajectories: int, rng: Noise) -> Any:
        return self.world.reset(worlds, trajectories, rng)

    def step(self, worlds: Worlds, state: Any, actions: Array, rng: Noise) -> tuple[Any, Array, Array]:
        return self.world.step(worlds, state, actions, rng)

    def observe(self, worlds: Worlds, state: Any) -> Array:
        seen = self.world.observe(worlds, state)
        known = [values.reshape(len(values), 1, -1) for values in worlds.values()]
        shape = seen.shape[:2]
        return np.concatenate([seen, *(np.broadcast_to(k, (*shape, k.shape[2])) for k in known)], axis=2)
