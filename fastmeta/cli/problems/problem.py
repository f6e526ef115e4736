"""What a run trains on: the network, the tasks and the evaluation of each problem, from a run's settings."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

import fastmeta as fm
from fastmeta.cli.run_folder import RunFolder
from fastmeta.learning.learner import Learner
from fastmeta.tasks import TaskSource

Settings = dict[str, Any]
BATCH_NORMS = ("transductive", "support", "frozen", "running")
EVALUATION_QUERIES = 15  # of each class, by default
EVALUATION_SEED = 1_000_003  # every run is evaluated on the same tasks, whatever its own seed
ALGORITHMS: dict[str, type[Learner]] = {
    "maml": fm.MAML,
    "fomaml": fm.FOMAML,
    "anil": fm.ANIL,
    "boil": fm.BOIL,
    "meta-sgd": fm.MetaSGD,
    "maml++": fm.MAMLPlusPlus,
    "reptile": fm.Reptile,
    "imaml": fm.iMAML,
    "protonet": fm.ProtoNet,
    "transfer": fm.Transfer,
}
OWN_OPTIONS = (
    "inner_lr",
    "inner_steps",
    "learn_inner_lr",
    "inner_batch",
    "inner_optimizer",
    "train_shots",
    "train_ways",
    "metric",
    "regularization",
    "cg_steps",
    "cg_damping",
    "proximal",
    "multi_step_iterations",
    "first_order_iterations",
    "step_norms",
    "running_statistics",
)  # of some algorithms only


class Sinusoids:
    """Regression of sine curves from a few points (arXiv 1703.03400, section 5.1)."""

    metric = "mean squared error"

    def __init__(self, settings: Settings) -> None:
        if settings["algorithm"] in ("transfer", "protonet"):
            raise ValueError(
                f'algorithm="{settings["algorithm"]}" must have classes: sinusoids have none. Use another.'
            )
        self.settings = settings
        self.title = f"sinusoids, {settings['shots']} shots"
        self.evaluation_queries = settings.get("evaluation_queries") or 100
        self.note = f"{self.evaluation_queries} query points a task"

    def network(self, tasks: TaskSource) -> fm.Network:
        """The paper's network."""
        return fm.MLP((1, 40, 40, 1), activation="relu")

    def training_tasks(self) -> TaskSource:
        """Shots and queries as the run says."""
        shots = self.settings.get("train_shots") or self.settings["shots"]
        return fm.tasks.Sinusoid(shots, self.settings["queries"])

    def evaluations(self, part: str = "test") -> Iterator[tuple[int, TaskSource]]:
        """(shots, tasks): the shots trained on, 10 and 5. There is only a test part."""
        if part != "test":
            raise ValueError(f'part="{part}" must be "test": sinusoids are drawn anew and have no other part.')
        for shots in sorted({self.settings["shots"], 10, 5}, reverse=True):
            yield shots, fm.tasks.Sinusoid(shots, self.evaluation_queries)

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


class Classification(ABC):
    """N-way K-shot classification of images of classes that were not trained on."""

    metric = "accuracy"
    note = ""  # said by `evaluations`
    name = ""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.title = f"{self.name}, {settings['ways']}-way {settings['shots']}-shot"

    @abstractmethod
    def network(self, tasks: TaskSource) -> fm.Network:
        """The network that is trained on `tasks`."""

    @abstractmethod
    def source(self, queries: int) -> fm.tasks.Omniglot | fm.tasks.Images:
        """Tasks of each part with this many query images a class."""

    def outputs(self, tasks: TaskSource) -> int | None:
        """As many as a task has classes, all training classes where they are learned at once, None for an embedding."""
        if self.settings["algorithm"] == "protonet":
            return None
        if self.settings["algorithm"] == "transfer" and isinstance(tasks, fm.tasks.LabelledTasks):
            return len(tasks.classes)
        return int(self.settings["ways"])

    def training_tasks(self) -> TaskSource:
        """The classes for training, with as many ways and shots as the algorithm trains on."""
        ways, shots = (self.settings.get(f"train_{size}") or self.settings[size] for size in ("ways", "shots"))
        return replace(self.source(self.settings["queries"]).train, ways=ways, shots=shots)

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

    def draw(self, learner: Learner, folder: RunFolder) -> list[str]:
        """No picture of its own."""
        return []


class Characters(Classification):
    """Omniglot characters from a few drawings (arXiv 1703.03400, section 5.2)."""

    name = "Omniglot"

    def network(self, tasks: TaskSource) -> fm.Network:
        """Four convolutions of stride 2; with max-pools for prototypes (arXiv 1703.05175)."""
        downsample = "pool" if self.settings["algorithm"] == "protonet" else "stride"
        return fm.Conv4((28, 28, 1), self.settings["channels"], self.outputs(tasks), downsample)

    def source(self, queries: int) -> fm.tasks.Omniglot:
        """Omniglot with the run's split."""
        chosen = self.settings
        return fm.tasks.Omniglot(chosen["data"], chosen["ways"], chosen["shots"], queries, chosen["split"])


class Pictures(Classification):
    """A user's images (arXiv 1703.03400, section 5.2, for miniImageNet)."""

    name = "images"

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
        small = chosen.get("small_classes") or "refuse"
        return fm.tasks.Images(chosen["data"], *sizes, split, small_classes=small)


Problem = Sinusoids | Characters | Pictures
PROBLEMS: dict[str, type[Problem]] = {"sinusoid": Sinusoids, "omniglot": Characters, "images": Pictures}


def new_learner(settings: Settings, network: fm.Network) -> Learner:
    """The untrained learner that a run's settings name, with those of them that it takes."""
    algorithm = ALGORITHMS[settings["algorithm"]]
    names = [name for name in inspect.signature(algorithm).parameters if settings.get(name) is not None]
    return algorithm(network, **{name: settings[name] for name in names})
