"""`fastmeta train images`."""

from __future__ import annotations

from typing import ClassVar

import fastmeta as fm
from fastmeta.cli.problems.classification import CLASSES, Classification
from fastmeta.cli.problems.problem import Settings
from fastmeta.learning.settings import Setting
from fastmeta.tasks import TaskSource
from fastmeta.tasks.images.splits import PUBLISHED
from fastmeta.tasks.sizes import SMALL


class Pictures(Classification):
    """Learn classes of your images from a few of each, by the paper's recipe for miniImageNet: Conv4 with max-pools.

    The paper ran 60,000 iterations: --iterations 60000.
    """

    name = "images"
    noun = "images"
    options: ClassVar = {
        "data": Setting(str, "Folder or file with the images; layouts: docs/start/data.md.", required=True),
        **CLASSES,
        "image_size": Setting(int, "Pixels of a side, after resizing.", 16),
        "small_classes": Setting(SMALL, "Classes of too few images: refused, skipped or used with what they have."),
        "split": Setting(("files", *PUBLISHED), "Training classes: as the files say, or a published list of names."),
    }
    recipes: ClassVar = {
        "images": {
            "ways": 5,
            "shots": 1,
            "queries": 15,
            "channels": 32,
            "image_size": 84,
            "small_classes": "refuse",
            "split": "files",
            "iterations": 20_000,
            "tasks_per_step": 4,
            "inner_lr": 0.01,
            "inner_steps": 5,
            "evaluation_steps": (10,),
            "episodes": 600,
        },
        "images, 5 shots": {"tasks_per_step": 2},
    }
    sizes: ClassVar = {"images, 5 shots": ("shots", 5)}

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.title = f"{self.title} from {settings['data']}"

    def network(self, tasks: TaskSource) -> fm.Network:
        """Four convolutions with max-pools."""
        size, channels = self.settings["image_size"], int(tasks.sample(1, 0).x_query.shape[-1])
        return fm.Conv4((size, size, channels), self.settings["channels"], self.outputs(tasks), downsample="pool")

    def source(self, queries: int) -> fm.tasks.Images:
        """The images with the run's split."""
        chosen = self.settings
        split = None if chosen["split"] == "files" else chosen["split"]
        sizes = chosen["ways"], chosen["shots"], queries, chosen["image_size"]
        return fm.tasks.Images(chosen["data"], *sizes, split, small_classes=chosen.get("small_classes", "refuse"))
