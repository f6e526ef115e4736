"""What a run trains on: the network, the tasks and the evaluation of each problem, from a run's settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

import fastmeta as fm
from fastmeta.cli.run_folder import RunFolder
from fastmeta.learner import Learner
from fastmeta.tasks import TaskSource

Settings = dict[str, Any]
PARTS = ("train", "validation", "test")
EVALUATION_SEED = 1_000_003  # every run is evaluated on the same tasks, whatever its own seed
ALGORITHMS: dict[str, type[fm.MAML]] = {"maml": fm.MAML, "fomaml": fm.FOMAML}
CLASSIFIERS = (*ALGORITHMS, "protonet")  # algorithms for tasks with classes


def make_learner(network: fm.Network, settings: Settings) -> Learner:
    """The learner that the settings of a run name."""
    if settings["algorithm"] == "protonet":
        return fm.ProtoNet(network, settings.get("metric") or "euclidean", device=settings["device"])
    kind = ALGORITHMS[settings["algorithm"]]
    return kind(network, settings["inner_lr"], settings["inner_steps"], device=settings["device"])


def make_optimizer(settings: Settings) -> fm.Adam:
    """Adam; for prototypes with a rate that is halved after each 2,000 episodes (arXiv 1703.05175)."""
    rate = settings["learning_rate"]
    return fm.Adam(fm.StepSchedule(rate, 0.5, 2000) if settings["algorithm"] == "protonet" else rate)


class Sinusoids:
    """Regression of sine curves from a few points (arXiv 1703.03400, section 5.1)."""

    metric = "mean squared error"
    note = "100 query points a task"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.network = fm.MLP((1, 40, 40, 1), activation="relu")
        self.title = f"sinusoids, {settings['shots']} shots"

    def training_tasks(self) -> TaskSource:
        """Shots and queries as the run says."""
        return fm.tasks.Sinusoid(self.settings["shots"], self.settings["queries"])

    def evaluations(self, part: str = "test") -> Iterator[tuple[int, TaskSource]]:
        """(shots, tasks): the shots trained on, 10 and 5. There is only a test part."""
        if part != "test":
            raise ValueError(f'part="{part}" must be "test": sinusoids are drawn anew and have no other part.')
        for shots in sorted({self.settings["shots"], 10, 5}, reverse=True):
            yield shots, fm.tasks.Sinusoid(shots, 100)

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


class Characters:
    """Classification of Omniglot characters from a few drawings (arXiv 1703.03400, section 5.2)."""

    metric = "accuracy"
    note = "15 query drawings a class; batch norm transductive"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        embeds = settings["algorithm"] == "protonet"
        outputs, downsample = (None, "pool") if embeds else (settings["ways"], "stride")
        self.network = fm.Conv4((28, 28, 1), settings["channels"], outputs, downsample)
        self.title = f"Omniglot, {settings['ways']}-way {settings['shots']}-shot"

    def training_tasks(self) -> TaskSource:
        """The characters for training."""
        tasks = self._omniglot(self.settings["queries"]).train
        return replace(tasks, ways=self.settings.get("train_ways") or self.settings["ways"])

    def evaluations(self, part: str = "test") -> Iterator[tuple[int, TaskSource]]:
        """(shots, tasks) of the characters of `part`."""
        tasks: TaskSource = getattr(self._omniglot(15), part)
        yield self.settings["shots"], tasks

    def draw(self, learner: Learner, folder: RunFolder) -> list[str]:
        """No picture of its own."""
        return []

    def _omniglot(self, queries: int) -> fm.tasks.Omniglot:
        chosen = self.settings
        return fm.tasks.Omniglot(chosen["data"], chosen["ways"], chosen["shots"], queries, chosen["split"])


Problem = Sinusoids | Characters
PROBLEMS: dict[str, type[Problem]] = {"sinusoid": Sinusoids, "omniglot": Characters}
