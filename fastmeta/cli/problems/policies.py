"""What the problems of policies share: a world instead of labelled samples, trajectories instead of shots."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import fastmeta as fm
from fastmeta.cli.problems.problem import Problem, Settings
from fastmeta.cli.run_folder import RunFolder
from fastmeta.learning.learner import Learner
from fastmeta.learning.settings import Setting, Share
from fastmeta.tasks import TaskSource

TRUST_REGION = {
    "max_kl": Setting(float, "Trust region: most mean KL of an update."),
    "curvature_share": Setting(float, "Trust region: share of the samples in its products, 1 / a whole number."),
}
USUAL: Settings = {
    "max_kl": 0.01,
    "curvature_share": 0.25,
    "trajectories": Share("shots"),
    "learning_rate": 1e-3,
}


class PolicyProblem(Problem):
    """A world of the command line; a subclass gives `world` and `policy`."""

    metric = "return"
    curve = "minus the return after adaptation"
    usual = "maml-trpo"
    has_classes = has_targets = False
    run_name = "{problem}-{algorithm}-seed{seed}"
    checkpoint_every = 25
    without = ("queries", "evaluation_queries", "batch_norm", "final_learning_rate")
    later_rate: ClassVar[float] = 0.5  # of inner steps behind the first, at evaluation, as a share of the first's
    options: ClassVar[dict[str, Setting]] = {
        "shots": Setting(int, "Trajectories of an inner step at evaluation."),
        **TRUST_REGION,
    }

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.title = f"{self.name}, {settings['shots']} trajectories a step"
        self.note = "the mean over each task's trajectories"

    @classmethod
    def suits(cls, algorithm: type[Learner]) -> bool:
        """Whether it learns policies."""
        return algorithm.network_outputs == "policy"

    def world(self) -> Any:
        """The world whose tasks are learned."""
        raise NotImplementedError

    def policy(self, world: Any) -> fm.Network:
        """The policy that is trained on it."""
        raise NotImplementedError

    def network(self, tasks: TaskSource) -> fm.Network:
        """The policy."""
        return self.policy(tasks)

    def training_tasks(self) -> Any:
        """The world."""
        return self.world()

    def evaluations(self, part: str = "test") -> Iterator[tuple[int, Any]]:
        """The world again: there is only a test part, of other seeds."""
        if part != "test":
            raise ValueError(f'part="{part}" must be "test": tasks are drawn anew and have no other part.')
        yield self.settings["shots"], self.world()

    def validation_tasks(self) -> Any:
        """The world: validation draws other tasks than training and evaluation do."""
        return self.world()

    def evaluation_rates(self) -> list[float]:
        """The rate of training, then a share of it for all further steps."""
        rate: float = self.settings["inner_lr"]
        return [rate, self.later_rate * rate]

    def draw(self, learner: Learner, folder: RunFolder) -> list[str]:
        """returns.png: before and after adaptation, and the entropy, by iteration."""
        from fastmeta.rl import pictures

        pictures.returns(folder.path / "returns.png", learner.history, self.title)
        return ["returns.png"]
