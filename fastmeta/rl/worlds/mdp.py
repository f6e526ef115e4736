"""Markov decision problems of a few states, with their best and their random return computed."""

from __future__ import annotations

import numpy as np

from fastmeta import checks
from fastmeta.rl.worlds.world import Noise, World, Worlds, stream
from fastmeta_kernels.contract import Array


class TabularMDP(World):
    """`states` states and `actions` actions; an observation is the state's unit vector, the first state is 0.

    Transitions are Dirichlet(1), mean rewards N(1, 1), rewards are these plus N(0, 1); all trajectories have `horizon`
    steps.
    Source: the tasks of Duan et al. 2016, arXiv 1611.02779, section 3.2.
    """

    discrete = True

    def __init__(self, states: int = 10, actions: int = 5, horizon: int = 10) -> None:
        self.observations = checks.integer("states", states, 1)
        self.actions = checks.integer("actions", actions, 2)
        self.horizon = checks.integer("horizon", horizon, 1)

    def sample(self, tasks: int, seed: int, step: int = 0) -> Worlds:
        """ "transitions" (T, states, actions, states) and "rewards" (T, states, actions)."""
        rng, states = stream(seed, step), self.observations
        shape = (checks.integer("tasks", tasks, 1), states, self.actions)
        return {"transitions": rng.dirichlet(np.ones(states), shape), "rewards": rng.normal(1, 1, shape)}

    def reset(self, worlds: Worlds, trajectories: int, rng: Noise) -> Array:
        """State 0 of all trajectories (T, R)."""
        return np.zeros((len(worlds["rewards"]), trajectories), np.int64)

    def observe(self, worlds: Worlds, state: Array) -> Array:
        """Unit vectors (T, R, states)."""
        return np.eye(self.observations)[state]

    def step(self, worlds: Worlds, state: Array, actions: Array, rng: Noise) -> tuple[Array, Array, Array]:
        """States by the inverse of the cumulated transition probabilities."""
        task = np.arange(len(state))[:, None]
        edges = worlds["transitions"][task, state, actions].cumsum(axis=2)
        after = (rng.random((*state.shape, 1)) > edges).sum(axis=2).clip(max=self.observations - 1)
        rewards = worlds["rewards"][task, state, actions] + rng.standard_normal(state.shape)
        return after, rewards, np.zeros(state.shape, bool)

    def optimal_return(self, worlds: Worlds) -> Array:
        """(T,) return of the best policy from state 0, by value iteration over the horizon."""
        return self._value(worlds, "max")

    def random_return(self, worlds: Worlds) -> Array:
        """(T,) return of uniformly random actions from state 0."""
        return self._value(worlds, "mean")

    def _value(self, worlds: Worlds, choose: str) -> Array:
        value = np.zeros((len(worlds["rewards"]), self.observations))
        for _ in range(self.horizon):
            ahead = worlds["rewards"] + np.einsum("tsan,tn->tsa", worlds["transitions"], value)
            value = getattr(ahead, choose)(axis=2)
        first: Array = value[:, 0]
        return first
