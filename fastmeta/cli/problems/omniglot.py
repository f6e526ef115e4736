"""`fastmeta train omniglot`."""

from __future__ import annotations

from typing import ClassVar

import fastmeta as fm
from fastmeta.cli.problems.classification import CLASSES, Classification
from fastmeta.learning.settings import Setting, Share
from fastmeta.tasks import TaskSource


class Characters(Classification):
    """Learn handwritten characters from a few drawings: Conv4 with strides or pools, transductive batch norm.

    The paper ran 60,000 iterations: --iterations 60000 (arXiv 1703.03400, section 5.2; in 20 ways as in its program).
    With --algorithm protonet: Conv4 with pools, Adam's rate halved after each 2,000 episodes (arXiv 1703.05175).
    """

    name = "omniglot"
    noun = "Omniglot"
    options: ClassVar = CLASSES | {
        "downsample": Setting(
            ("stride", "pool"), "How its convolutions halve a picture.  [default: stride; protonet pool]"
        ),
        "split": Setting(("maml", "vinyals"), "Training characters: 1,100 at random, or the list of Vinyals et al."),
        "data": Setting(
            str, "Folder with the Omniglot archives or images.  [default: FASTMETA_OMNIGLOT, else a download]"
        ),
    }
    recipes: ClassVar = {
        "omniglot": {
            "ways": 5,
            "shots": 1,
            "queries": Share("shots"),
            "channels": 64,
            "split": "maml",
            "iterations": 20_000,
            "tasks_per_step": 32,
            "inner_lr": 0.4,
            "inner_steps": 1,
            "evaluation_steps": (3,),
            "episodes": 1000,
        },
        "omniglot, 20 ways": {"tasks_per_step": 16, "inner_lr": 0.1, "inner_steps": 5, "evaluation_steps": (5,)},
    }
    sizes: ClassVar = {"omniglot, 20 ways": ("ways", 20)}

    def network(self, tasks: TaskSource) -> fm.Network:
        """Four convolutions of stride 2 unless said; for an embedding with max-pools (arXiv 1703.05175)."""
        usual = "pool" if self.algorithm.network_outputs == "embedding" else "stride"
        downsample = self.settings.get("downsample", usual)
        return fm.Conv4((28, 28, 1), self.settings["channels"], self.outputs(tasks), downsample)

    def source(self, queries: int) -> fm.tasks.Omniglot:
        """Omniglot with the run's split."""
        chosen = self.settings
        return fm.tasks.Omniglot(chosen.get("data"), chosen["ways"], chosen["shots"], queries, chosen["split"])
