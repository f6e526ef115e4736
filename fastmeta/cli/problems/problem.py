"""What a problem of the command line is: tasks, a network, settings of its own and their values, pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import fastmeta as fm
from fastmeta.cli.algorithms import ALGORITHMS
from fastmeta.cli.run_folder import RunFolder
from fastmeta.learning.learner import Learner
from fastmeta.learning.settings import Setting
from fastmeta.tasks import TaskSource

Settings = dict[str, Any]
EVALUATION_SEED = 1_000_003  # every run is evaluated on the same tasks, whatever its own seed


class Problem(ABC):
    """One problem; a subclass in a file of this folder is a command of `fastmeta train`, and its docstring the help."""

    name: ClassVar[str]
    metric: ClassVar[str]  # what a score is, in words
    options: ClassVar[dict[str, Setting]] = {}  # settings of its own, or said anew
    recipes: ClassVar[dict[str, Settings]]  # under `name`, for every algorithm where that says nothing else
    sizes: ClassVar[dict[str, tuple[str, int]]] = {}  # further recipes, and the setting and value from which they hold
    run_name: ClassVar[str] = "{problem}-{algorithm}-{shots}shot-seed{seed}"
    checkpoint_every: ClassVar[int] = 250  # iterations
    has_classes: ClassVar[bool] = True
    has_targets: ClassVar[bool] = True
    usual: ClassVar[str] = "maml"  # the algorithm where none is named
    without: ClassVar[tuple[str, ...]] = ()  # settings of every run that this problem has not
    curve: ClassVar[str] = "query loss"  # what its learning curve shows
    title: str  # of a run
    note: str = ""  # on what its score is taken

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.algorithm = ALGORITHMS[settings["algorithm"]]

    @classmethod
    def suits(cls, algorithm: type[Learner]) -> bool:
        """Whether an algorithm can learn it."""
        return algorithm.network_outputs != "policy" and (cls.has_classes or algorithm.network_outputs == "task")

    @abstractmethod
    def network(self, tasks: TaskSource) -> fm.Network:
        """The network that is trained on `tasks`."""

    @abstractmethod
    def training_tasks(self) -> TaskSource:
        """Tasks with shots and queries as the run says."""

    @abstractmethod
    def evaluations(self, part: str = "test") -> Iterator[tuple[int, TaskSource]]:
        """(shots, tasks) of a part, one or more."""

    def validation_tasks(self) -> TaskSource:
        """Tasks on which a run finds its best iteration."""
        return next(self.evaluations("validation"))[1]

    def evaluation_rates(self) -> Any:
        """Inner rates at evaluation of learners of policies; None: those of training."""
        return None

    def draw(self, learner: Learner, folder: RunFolder) -> list[str]:
        """Names of the pictures that it has drawn into the folder."""
        return []

    def training_size(self, size: str) -> int:
        """The "ways" or "shots" that the algorithm trains on."""
        return int(self.settings.get(f"train_{size}") or self.settings[size])
