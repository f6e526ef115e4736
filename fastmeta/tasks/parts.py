"""Tasks in three parts that share no class: for training, validation and test."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

from fastmeta.tasks.labelled import LabelledTasks

PARTS = ("train", "validation", "test")


class Parts(ABC):
    """A data set whose `_tasks` makes the tasks of a part by its name."""

    @cached_property
    def train(self) -> LabelledTasks:
        """Tasks of the training classes; built on first use, as are the other two."""
        return self._tasks("train")

    @cached_property
    def validation(self) -> LabelledTasks:
        """Tasks of the validation classes."""
        return self._tasks("validation")

    @cached_property
    def test(self) -> LabelledTasks:
        """Tasks of the test classes."""
        return self._tasks("test")

    @abstractmethod
    def _tasks(self, part: str) -> LabelledTasks: ...
