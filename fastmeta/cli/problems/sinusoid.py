"""`fastmeta train sinusoid`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

import fastmeta as fm
from fastmeta.cli.problems.problem import EVALUATION_SEED, Problem, Settings
from fastmeta.cli.run_folder import RunFolder
from fastmeta.learning.learner import Learner
from fastmeta.tasks import TaskSource


class Sinusoids(Problem):
    """Learn sine curves from a few points with the network 1-40-40-1.

    The paper ran 70,000 iterations (arXiv 1703.03400, section 5.1); other algorithms as far as their papers go, which
    are about images.
    """

    name = "sinusoid"
    metric = "mean squared error"
    recipes: ClassVar = {
        "sinusoid": {
            "shots": 10,
            "queries": 10,
            "iterations": 15_000,
            "tasks_per_step": 25,
            "inner_lr": 0.01,
            "inner_steps": 1,
            "evaluation_steps": (0, 1, 5, 10),
            "evaluation_queries": 100,
            "episodes": 600,
        }
    }
    checkpoint_every = 5000
    has_classes = False

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.title = f"sinusoids, {settings['shots']} shots"
        self.evaluation_queries = settings.get("evaluation_queries", 100)
        self.note = f"{self.evaluation_queries} query points a task"

    def network(self, tasks: TaskSource) -> fm.Network:
        """The paper's network."""
        return fm.MLP((1, 40, 40, 1), activation="relu")

    def training_tasks(self) -> TaskSource:
        """Shots and queries as the run says."""
        return fm.tasks.Sinusoid(self.training_size("shots"), self.settings["queries"])

    def evaluations(self, part: str = "test") -> Iterator[tuple[int, TaskSource]]:
        """(shots, tasks): the shots trained on, 10 and 5. There is only a test part."""
        if part != "test":
            raise ValueError(f'part="{part}" must be "test": sinusoids are drawn anew and have no other part.')
        for shots in sorted({self.settings["shots"], 10, 5}, reverse=True):
            yield shots, fm.tasks.Sinusoid(shots, self.evaluation_queries)

    def validation_tasks(self) -> TaskSource:
        """Other sinusoids than those of training and evaluation."""
        return next(self.evaluations())[1]

    def draw(self, learner: Learner, folder: RunFolder) -> list[str]:
        """sinusoid.png: three new curves before and after 1, 5 and 10 inner steps."""
        from fastmeta import plots

        count = 3
        source = fm.tasks.Sinusoid(self.settings["shots"], 1)
        batch = source.sample(count, EVALUATION_SEED)
        amplitude, phase = source.parameters(count, EVALUATION_SEED)
        x = np.linspace(*source.x_range, 200)
        grid = np.tile(x.astype(np.float32)[None, :, None], (count, 1, 1))
        predictions = {}
        for steps in (0, 1, 5, 10):
            model = learner.adapt(batch.x_support, batch.y_support, inner_steps=steps)
            predictions[steps] = model.predict(grid)[..., 0]
        truth = amplitude[:, None] * np.sin(x - phase[:, None])
        support = batch.x_support[..., 0], batch.y_support[..., 0]
        plots.adaptation(folder.path / "sinusoid.png", x, truth, *support, predictions)
        return ["sinusoid.png"]
