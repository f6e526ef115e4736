"""A cheetah that has to run forward or backward, or at some speed: MuJoCo, by Gymnasium."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmeta import checks
from fastmeta.rl.worlds.gymnasium import Gymnasium
from fastmeta.rl.worlds.world import Worlds, stream
from fastmeta_kernels.contract import Array

FASTEST = {"direction": 1.0, "velocity": 2.0}


class HalfCheetah(Gymnasium):
    """A cheetah with a goal: its reward is the speed forward or backward, or minus the distance to one in 0 .. 2 m/s.

    Observations are the papers' 20 numbers, positions but the first, velocities and the torso's place; an action costs
    0.05 |a|^2. goal: "direction" or "velocity". Gymnasium's model file is not rllab's: returns compare with the papers'
    in their order only (Finn, Abbeel and Levine 2017, arXiv 1703.03400, section 5.3).
    """

    def __init__(self, goal: str = "direction", horizon: int = 100) -> None:
        self.goal = checks.choice("goal", goal, ("direction", "velocity"))
        super().__init__(_cheetah(self.goal), self._goals, _set_goal, horizon)

    def _goals(self, tasks: int, seed: int, step: int) -> Worlds:
        unit = stream(seed, step).random(tasks)
        return {"goal": np.where(unit < 0.5, -1.0, 1.0) if self.goal == "direction" else FASTEST["velocity"] * unit}


def _set_goal(env: Any, task: dict[str, Array]) -> None:
    env.unwrapped.goal = float(task["goal"])


def _cheetah(kind: str) -> Any:
    try:
        from gymnasium import spaces
        from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'gymnasium with MuJoCo must be installed for HalfCheetah. Run pip install "fastmeta[rl]".'
        ) from error

    class Cheetah(HalfCheetahEnv):  # type: ignore[misc, unused-ignore]
        """Gymnasium's cheetah with the papers' observation and reward."""

        goal = 1.0

        def __init__(self) -> None:
            super().__init__()
            self.observation_space = spaces.Box(-np.inf, np.inf, (20,), np.float64)

        def _get_obs(self) -> Array:
            torso = self.get_body_com("torso")  # type: ignore[no-untyped-call, unused-ignore]
            return np.concatenate([self.data.qpos.flat[1:], self.data.qvel.flat, torso])

        def step(self, action: Array) -> Any:
            before = self.data.qpos[0]
            self.do_simulation(action, self.frame_skip)
            speed = (self.data.qpos[0] - before) / self.dt
            earned = self.goal * speed if kind == "direction" else -abs(speed - self.goal)
            return self._get_obs(), float(earned - 0.05 * np.square(action).sum()), False, False, {"speed": speed}

    return Cheetah
