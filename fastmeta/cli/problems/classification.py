"""What problems of images and their classes share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import fastmeta as fm
from fastmeta.cli.problems.problem import Problem, Settings
from fastmeta.learning.settings import Setting
from fastmeta.tasks import TaskSource

EVALUATION_QUERIES = 15  # of each class, by default
CLASSES = {
    "ways": Setting(int, "Classes in a task.", 2),
    "channels": Setting(int, "Channels of the four convolutions."),
    "evaluation_queries": Setting(int, "Images of a class that a score is taken on, at most.  [default: 15]"),
}


class Classification(Problem):
    """N-way K-shot classification of images of classes that were not trained on."""

    metric = "accuracy"
    noun: ClassVar[str]
    run_name = "{problem}-{algorithm}-{ways}way-{shots}shot-seed{seed}"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.title = f"{self.noun}, {settings['ways']}-way {settings['shots']}-shot"

    @abstractmethod
    def source(self, queries: int) -> Any:
        """Tasks of each part, `train`, `validation` and `test`, with this many query images a class."""

    def outputs(self, tasks: TaskSource) -> int | None:
        """As many as a task has classes, all training classes where they are learned at once, None for an embedding."""
        if self.algorithm.network_outputs == "embedding":
            return None
        if self.algorithm.network_outputs == "classes" and isinstance(tasks, fm.tasks.LabelledTasks):
            return len(tasks.classes)
        return int(self.settings["ways"])

    def training_tasks(self) -> TaskSource:
        """The classes for training, with as many ways and shots as the algorithm trains on.

        What it would train on beyond the evaluation's is lowered to what the data have; the title says so.
        """
        tasks: fm.tasks.LabelledTasks = self.source(self.settings["queries"]).train
        most = {"ways": len(tasks.classes) // tasks.variants, "shots": tasks.fewest - self.settings["queries"]}
        sizes: dict[str, Any] = {}
        for size, there in most.items():
            sizes[size] = min(self.training_size(size), max(there, self.settings[size]))
            if sizes[size] < self.training_size(size):
                self.title += f", trained with {sizes[size]} {size}, as there are no more"
        return replace(tasks, **sizes)

    def evaluations(self, part: str = "test") -> Iterator[tuple[int, TaskSource]]:
        """(shots, tasks) of the classes of `part`, with 15 query images a class, or fewer where a class has no more."""
        shots, queries = self.settings["shots"], self.settings.get("evaluation_queries")
        tasks: fm.tasks.LabelledTasks = getattr(self.source(1), part)
        up_to = "up to " if tasks.small_classes == "use" else ""
        if queries is None:
            queries = EVALUATION_QUERIES if up_to else min(EVALUATION_QUERIES, tasks.fewest - shots)
        tasks = replace(tasks, queries=queries)
        without = f"; without {', '.join(map(str, tasks.left_out))}, of too few" if tasks.left_out else ""
        self.note = f"{up_to}{queries} query images a class{without}"
        yield shots, tasks
