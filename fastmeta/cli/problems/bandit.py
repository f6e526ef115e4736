"""`fastmeta train bandit`."""

from __future__ import annotations

from typing import Any, ClassVar

import fastmeta as fm
from fastmeta.cli.problems.policies import USUAL, PolicyProblem
from fastmeta.learning.settings import Setting, Share


class Bandit(PolicyProblem):
    """Find the best of some arms in a few pulls, then one step: the policy 1-32-32-arms.

    The return is the mean reward of a pull. The tasks are those of arXiv 1611.02779, section 3.1.
    """

    name = "bandit"
    options: ClassVar[dict[str, Setting]] = PolicyProblem.options | {
        "arms": Setting(int, "How many arms.", 2),
        "rewards": Setting(("bernoulli", "gaussian"), "What they pay."),
    }
    recipes: ClassVar = {
        "bandit": USUAL
        | {
            "shots": 10,
            "trajectories": Share("shots"),
            "curvature_share": 1.0,
            "inner_lr": 0.5,
            "iterations": 100,
            "tasks_per_step": 100,
            "evaluation_steps": (0, 1),
            "episodes": 1000,
            "pooled": True,
            "arms": 5,
            "rewards": "bernoulli",
        }
    }

    def world(self) -> Any:
        """Arms as the run says."""
        return fm.rl.Bandit(self.settings["arms"], self.settings["rewards"])

    def policy(self, world: Any) -> fm.Network:
        """A small one: there is nothing to see."""
        return fm.rl.categorical_policy(1, self.settings["arms"], hidden=(32, 32))
