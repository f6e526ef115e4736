"""`fastmeta train halfcheetah`."""

from __future__ import annotations

from typing import Any, ClassVar

import fastmeta as fm
from fastmeta.cli.problems.policies import USUAL, PolicyProblem
from fastmeta.learning.settings import Setting


class HalfCheetah(PolicyProblem):
    """Run forward or backward, or at some speed; needs Gymnasium and MuJoCo, pip install "fastmeta[rl]".

    Tasks and rates are those of the MAML paper (arXiv 1703.03400, section 5.3), with trajectories of 100 steps.
    """

    name = "halfcheetah"
    options: ClassVar[dict[str, Setting]] = PolicyProblem.options | {
        "goal": Setting(("direction", "velocity"), "What a task asks for.")
    }
    recipes: ClassVar = {
        "halfcheetah": USUAL
        | {
            "shots": 20,
            "inner_lr": 0.1,
            "iterations": 300,
            "tasks_per_step": 40,
            "evaluation_steps": (0, 1, 3),
            "episodes": 40,
            "goal": "direction",
        }
    }

    def world(self) -> Any:
        """The goal that the run says."""
        return fm.rl.HalfCheetah(self.settings["goal"])

    def policy(self, world: Any) -> fm.Network:
        """The paper's policy."""
        return fm.rl.gaussian_policy(20, 6, hidden=(100, 100))
