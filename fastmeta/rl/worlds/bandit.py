"""Bandits with many arms: a task is how much each arm pays."""

from __future__ import annotations

import numpy as np

from fastmeta import checks
from fastmeta.rl.worlds.world import Noise, World, Worlds, stream
from fastmeta_kernels.contract import Array


class Bandit(World):
    """`arms` arms; a trajectory is one pull, so that n trajectories are n pulls, and an observation is a one.

    rewards="bernoulli": arm k pays 1 with probability p_k, uniform on [0, 1]. "gaussian": p_k plus standard normal
    noise, p_k standard normal. Source: the tasks of Duan et al. 2016, arXiv 1611.02779, section 3.1.
    """

    horizon, observations, discrete = 1, 1, True

    def __init__(self, arms: int = 5, rewards: str = "bernoulli") -> None:
        self.actions = checks.integer("arms", arms, 2)
        self.rewards = checks.choice("rewards", rewards, ("bernoulli", "gaussian"))

    def sample(self, tasks: int, seed: int, step: int = 0) -> Worlds:
        """ "pays" (T, arms): the mean reward of each arm."""
        rng, shape = stream(seed, step), (checks.integer("tasks", tasks, 1), self.actions)
        return {"pays": rng.random(shape) if self.rewards == "bernoulli" else rng.standard_normal(shape)}

    def reset(self, worlds: Worlds, trajectories: int, rng: Noise) -> Array:
        """Ones (T, R, 1)."""
        return np.ones((len(worlds["pays"]), trajectories, 1))

    def step(self, worlds: Worlds, state: Array, actions: Array, rng: Noise) -> tuple[Array, Array, Array]:
        """The reward of the arms (T, R) that are pulled."""
        means = np.take_along_axis(worlds["pays"], actions, axis=1)
        if self.rewards == "bernoulli":
            rewards = (rng.random(actions.shape) < means).astype(np.float64)
        else:
            rewards = means + rng.standard_normal(actions.shape)
        return state, rewards, np.ones(actions.shape, bool)

    def oracle(self, pulls: int, tasks: int = 20_000, seed: int = 0) -> float:
        """Expected reward of the next pull, by the arm of highest posterior mean after `pulls` uniform ones.

        Beta(1, 1) is the prior of Bernoulli arms, the standard normal that of Gaussian ones; a mean over `tasks` draws.
        """
        rng = stream(seed, 1)
        means = self.sample(tasks, seed)["pays"]
        arms = rng.integers(0, self.actions, (tasks, checks.integer("pulls", pulls, 0)))
        counts, sums = np.zeros(means.shape), np.zeros(means.shape)
        rows = np.arange(tasks)
        for arm in arms.T:
            paid = means[rows, arm]
            bernoulli = self.rewards == "bernoulli"
            sums[rows, arm] += rng.random(tasks) < paid if bernoulli else paid + rng.standard_normal(tasks)
            counts[rows, arm] += 1
        posterior = (sums + 1) / (counts + 2) if self.rewards == "bernoulli" else sums / (counts + 1)
        return float(means[rows, posterior.argmax(axis=1)].mean())
