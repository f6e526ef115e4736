"""`fastmeta train navigation`."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import fastmeta as fm
from fastmeta.cli.problems.policies import USUAL, PolicyProblem
from fastmeta.cli.problems.problem import EVALUATION_SEED
from fastmeta.cli.run_folder import RunFolder
from fastmeta.learning.learner import Learner
from fastmeta.learning.settings import Setting
from fastmeta.rl.learner import PolicyLearner


class Navigation(PolicyProblem):
    """Find a goal in the plane: the policy 2-100-100-2 with a learned deviation.

    Rates, trajectories and iterations are those of the MAML paper (arXiv 1703.03400, section 5.3) and its program.
    """

    name = "navigation"
    options: ClassVar[dict[str, Setting]] = PolicyProblem.options | {
        "goals": Setting(("square", "corners"), "Where goals are."),
        "reward": Setting(("distance", "sparse"), "What is earned."),
    }
    recipes: ClassVar = {
        "navigation": USUAL
        | {
            "shots": 40,
            "trajectories": 20,
            "inner_lr": 0.5,
            "iterations": 100,
            "tasks_per_step": 20,
            "evaluation_steps": (0, 1, 2, 3),
            "episodes": 40,
            "goals": "square",
            "reward": "distance",
        }
    }

    def world(self) -> Any:
        """Goals and reward as the run says."""
        return fm.rl.Navigation2D(goals=self.settings["goals"], reward=self.settings["reward"])

    def policy(self, world: Any) -> fm.Network:
        """The paper's policy."""
        return fm.rl.gaussian_policy(2, 2, hidden=(100, 100))

    def draw(self, learner: Learner, folder: RunFolder) -> list[str]:
        """Also paths.png: the way to four new goals before and after 1, 2 and 3 inner steps."""
        from fastmeta.rl import pictures

        world, agent = self.world(), cast(PolicyLearner, learner)
        worlds, rates, places = world.sample(4, EVALUATION_SEED), self.evaluation_rates(), list(range(4))
        attempts = agent.attempts(world, worlds, 3, rates, self.settings["shots"], EVALUATION_SEED, places)
        pictures.paths(folder.path / "paths.png", worlds["goal"], attempts)
        return [*super().draw(learner, folder), "paths.png"]
