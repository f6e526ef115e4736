"""`fastmeta train mdp`."""

from __future__ import annotations

from typing import Any, ClassVar

import fastmeta as fm
from fastmeta.cli.problems.policies import USUAL, PolicyProblem


class TabularMDP(PolicyProblem):
    """Learn a Markov decision problem of ten states and five actions: the policy 10-32-32-5.

    The tasks are those of arXiv 1611.02779, section 3.2; a trajectory has ten steps.
    """

    name = "mdp"
    recipes: ClassVar = {
        "mdp": USUAL
        | {
            "shots": 20,
            "curvature_share": 1.0,
            "inner_lr": 0.5,
            "iterations": 300,
            "tasks_per_step": 20,
            "evaluation_steps": (0, 1, 3),
            "episodes": 300,
        }
    }

    def world(self) -> Any:
        """Ten states, five actions, ten steps."""
        return fm.rl.TabularMDP()

    def policy(self, world: Any) -> fm.Network:
        """Logits of five actions."""
        return fm.rl.categorical_policy(10, 5, hidden=(32, 32))
