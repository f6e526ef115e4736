"""Any Gymnasium environment as a world: one environment a trajectory, stepped one after the other."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from fastmeta import checks
from fastmeta.rl.worlds.world import Noise, World, Worlds
from fastmeta_kernels.contract import Array

_MISSING = 'gymnasium must be installed for this world. Run pip install "fastmeta[rl]".'


class Gymnasium(World):
    """Environments of `make()`, made once and kept; `set_task(env, task)` gives one the parameters of a task.

    tasks(count, seed, step): the parameters of `count` tasks as {name: (count, ...)}, a pure function of (seed, step);
    set_task gets those of one task, {name: (...)}. Spaces are Box, vectors, and Discrete; actions are clipped to a Box.
    A trajectory that is truncated ends as one that is terminated: nothing is expected behind it, as in the papers.

    Raises ModuleNotFoundError without Gymnasium, TypeError for other spaces; warns where two tasks give equal rewards
    for the same actions and seed, as an environment does that ignores its task.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        tasks: Callable[[int, int, int], Worlds],
        set_task: Callable[[Any, dict[str, Array]], None],
        horizon: int,
    ) -> None:
        try:
            from gymnasium import spaces
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(_MISSING) from error
        self.horizon = checks.integer("horizon", horizon, 1)
        self._make, self._tasks, self._set_task = make, tasks, set_task
        self._made: list[Any] = [make()]
        seen, done = self._made[0].observation_space, self._made[0].action_space
        if not isinstance(seen, spaces.Box) or len(seen.shape) != 1:
            raise TypeError(f"observation_space={seen} must be a Box of vectors. Flatten it by a wrapper.")
        if not isinstance(done, spaces.Box | spaces.Discrete) or (
            isinstance(done, spaces.Box) and len(done.shape) != 1
        ):
            raise TypeError(f"action_space={done} must be a Box of vectors or Discrete. Flatten it by a wrapper.")
        self.discrete = isinstance(done, spaces.Discrete)
        self.observations = int(seen.shape[0])
        self.actions = int(done.n) if isinstance(done, spaces.Discrete) else int(done.shape[0])
        self._first = int(done.start) if isinstance(done, spaces.Discrete) else 0
        self._bounds = None if isinstance(done, spaces.Discrete) else (done.low, done.high)
        self._probe()

    def sample(self, tasks: int, seed: int, step: int = 0) -> Worlds:
        return self._tasks(checks.integer("tasks", tasks, 1), seed, step)

    def reset(self, worlds: Worlds, trajectories: int, rng: Noise) -> Array:
        """Observations (T, R, O) of environments that begin by seeds of `rng`."""
        tasks = len(next(iter(worlds.values())))
        seeds = (rng.random((tasks, trajectories)) * 2**31).astype(np.int64)
        while len(self._made) < tasks * trajectories:
            self._made.append(self._make())
        self._over = np.zeros((tasks, trajectories), bool)
        first = np.zeros((tasks, trajectories, self.observations))
        for t in range(tasks):
            for r in range(trajectories):
                env = self._made[t * trajectories + r]
                self._set_task(env, {name: values[t] for name, values in worlds.items()})
                first[t, r] = env.reset(seed=int(seeds[t, r]))[0]
        return first

    def step(self, worlds: Worlds, state: Array, actions: Array, rng: Noise) -> tuple[Array, Array, Array]:
        """Observations, rewards and ends; an environment that is done is not stepped on."""
        tasks, trajectories = actions.shape[:2]
        seen, rewards = state.copy(), np.zeros((tasks, trajectories))
        for t, r in zip(*np.nonzero(~self._over), strict=True):
            env = self._made[t * trajectories + r]
            observed, reward, terminated, truncated, _ = env.step(self._action(actions[t, r]))
            seen[t, r], rewards[t, r] = observed, reward
            self._over[t, r] = terminated or truncated
        return seen, rewards, self._over.copy()

    def _action(self, action: Any) -> Any:
        return int(action) + self._first if self._bounds is None else np.clip(action, *self._bounds)

    def _probe(self) -> None:
        """Warn where the rewards of two tasks are the same."""
        worlds, rng = self.sample(2, 0), np.random.default_rng(0)
        env, steps = self._made[0], min(10, self.horizon)
        env.action_space.seed(0)
        actions = [env.action_space.sample() for _ in range(steps)]
        earned = []
        for t in range(2):
            self._set_task(env, {name: values[t] for name, values in worlds.items()})
            env.reset(seed=int(rng.integers(1)))
            rewards = []
            for action in actions:
                _, reward, terminated, truncated, _ = env.step(action)
                rewards.append(float(reward))
                if terminated or truncated:
                    break
            earned.append(rewards)
        alike = all(np.array_equal(values[0], values[1]) for values in worlds.values())
        if earned[0] == earned[1] and not alike:
            warnings.warn("Two tasks give equal rewards: set_task seems to change nothing. Look at it.", stacklevel=3)
