"""A point that has to find a goal in the plane, the first reinforcement problem of the MAML paper."""

from __future__ import annotations

import numpy as np

from fastmeta import checks
from fastmeta.rl.worlds.world import Noise, World, Worlds, stream
from fastmeta_kernels.contract import Array

SQUARE = 0.5  # goals are uniform on [-0.5, 0.5]^2
NEAR = 0.01  # a trajectory ends where both coordinates are this near to the goal


class Navigation2D(World):
    """Goals in the plane; an action (2,) is a velocity in tenths, and no coordinate moves by more than 0.1 a step.

    goals="square": uniform on [-0.5, 0.5]^2, start at the origin, trajectories end at the goal (Finn, Abbeel and Levine
    2017, arXiv 1703.03400, section 5.3). goals="corners": one of (+-2, +-2), start uniform on [-0.2, 0.2]^2, steps of
    at most 0.2, no end (Rothfuss et al. 2019, arXiv 1810.06784). reward="distance": minus the distance to the goal.
    reward="sparse": 0 near the start, |x|_1 < 0.5 (a tenth of the way in a square), else the progress towards the
    goal, where no other corner is nearer.
    """

    observations, actions = 2, 2

    def __init__(self, horizon: int = 100, goals: str = "square", reward: str = "distance") -> None:
        self.horizon = checks.integer("horizon", horizon, 1)
        self.goals = checks.choice("goals", goals, ("square", "corners"))
        self.reward = checks.choice("reward", reward, ("distance", "sparse"))

    def sample(self, tasks: int, seed: int, step: int = 0) -> Worlds:
        """ "goal" (T, 2)."""
        rng, count = stream(seed, step), checks.integer("tasks", tasks, 1)
        if self.goals == "square":
            return {"goal": rng.uniform(-SQUARE, SQUARE, (count, 2))}
        return {"goal": rng.choice((-2.0, 2.0), (count, 2))}

    def reset(self, worlds: Worlds, trajectories: int, rng: Noise) -> Array:
        """Positions (T, R, 2)."""
        shape = (len(worlds["goal"]), trajectories, 2)
        return np.zeros(shape) if self.goals == "square" else 0.4 * rng.random(shape) - 0.2

    def step(self, worlds: Worlds, state: Array, actions: Array, rng: Noise) -> tuple[Array, Array, Array]:
        """Positions move by a tenth of the action."""
        goal, most = worlds["goal"][:, None], 0.1 if self.goals == "square" else 0.2
        moved = state + np.clip(0.1 * actions, -most, most)
        far = np.linalg.norm(moved - goal, axis=2)
        done = (np.abs(moved - goal) < NEAR).all(axis=2) & (self.goals == "square")
        if self.reward == "distance":
            return moved, -far, done
        outside = np.abs(moved).sum(axis=2) >= (0.05 if self.goals == "square" else 0.5)
        nearest = self.goals == "square" or (np.sign(moved) == np.sign(goal)).all(axis=2)
        progress = np.linalg.norm(state - goal, axis=2) - far
        return moved, np.where(outside & nearest, progress, 0.0), done
