"""What each rank of the tests does: train and evaluate learners, and keep what came of them in a file of its own."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastmeta as fm
from fastmeta.ranks.joining import joined
from tests.ranks import gpus

RANK = int(os.environ.get("OMPI_COMM_WORLD_RANK", "0"))
SINUSOID = fm.tasks.Sinusoid(shots=5, queries=5)
ATTRIBUTES = fm.tasks.AttributeClasses(ways=3, queries=3, attributes=3, features=4)


def classes() -> Any:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 12)
    x = rng.normal(size=(6, 8, 8, 1))[labels] + rng.normal(size=(72, 8, 8, 1))
    return fm.tasks.from_arrays(x, labels, ways=3, shots=(1, 3), queries=3)


MLP = fm.MLP((1, 12, 12, 1))
IMAGES = fm.Conv4((8, 8, 1), channels=4, outputs=3)
TRAINED: dict[str, Callable[[str], tuple[Any, Any]]] = {
    "MAML": lambda device: (fm.MAML(MLP, 0.01, 2, learn_inner_lr=True, device=device), SINUSOID),
    "FOMAML": lambda device: (fm.FOMAML(MLP, 0.01, 2, device=device), SINUSOID),
    "ANIL": lambda device: (fm.ANIL(MLP, 0.05, 2, device=device), SINUSOID),
    "BOIL": lambda device: (fm.BOIL(MLP, 0.01, 2, device=device), SINUSOID),
    "MetaSGD": lambda device: (fm.MetaSGD(MLP, 0.01, 2, device=device), SINUSOID),
    "MAMLPlusPlus": lambda device: (
        fm.MAMLPlusPlus(IMAGES, 0.05, 2, multi_step_iterations=2, running_statistics=True, device=device),
        classes(),
    ),
    "stepwise MAMLPlusPlus": lambda device: (fm.MAMLPlusPlus(IMAGES, 0.05, 2, device=device), classes()),
    "ArchitectureMAML": lambda device: (
        fm.ArchitectureMAML(IMAGES, 0.05, 1, operations="conv1,conv3", device=device),
        classes(),
    ),
    "Reptile": lambda device: (fm.Reptile(MLP, 0.02, inner_batch=3, device=device), SINUSOID),
    "iMAML": lambda device: (fm.iMAML(MLP, 0.05, 3, device=device), SINUSOID),
    "ProtoNet": lambda device: (fm.ProtoNet(fm.MLP((64, 8, 4)), metric="cosine", device=device), Flat(classes())),
    "Transfer": lambda device: (
        fm.Transfer(fm.Conv4((8, 8, 1), channels=4, outputs=6), batch_size=8, device=device),
        classes(),
    ),
    "ZeroShot": lambda device: (fm.ZeroShot(fm.MLP((4, 5)), fm.MLP((3, 5)), device=device), ATTRIBUTES),
    "SideInformation": lambda device: (fm.SideInformation(fm.MLP((4, 5)), fm.MLP((3, 5)), device=device), ATTRIBUTES),
}


class Flat:
    """A source that knows nothing of ranks: samples of the tasks of another, flat."""

    def __init__(self, tasks: Any) -> None:
        self.tasks = tasks

    def sample(self, tasks: int, seed: int, step: int = 0) -> fm.Batch:
        b = self.tasks.sample(tasks, seed, step)
        x, q = (a.reshape(*a.shape[:2], -1) for a in (b.x_support, b.x_query))
        return fm.Batch(x, b.y_support, q, b.y_query)


class Named:
    """Tasks whose classes have names that cannot be sent from one rank."""

    def __init__(self, tasks: Any, rank: int) -> None:
        self.tasks = tasks
        self.class_names = [(lambda: None) if rank == RANK else str(i) for i in range(6)]

    def classes_of(self, tasks: int, seed: int, step: int = 0) -> Any:
        return self.tasks.classes_of(tasks, seed, step)

    def sample(self, tasks: int, seed: int, step: int = 0) -> fm.Batch:
        return self.tasks.sample(tasks, seed, step)


class Slow:
    """Tasks that take `seconds` to be drawn; on one rank, at one step, they raise."""

    def __init__(self, tasks: Any, seconds: float, fails: list[int]) -> None:
        self.tasks, self.seconds, self.fails = tasks, seconds, fails

    def sample(self, tasks: int, seed: int, step: int = 0) -> fm.Batch:
        time.sleep(self.seconds)
        if [RANK, step] == self.fails:
            raise ValueError("these tasks are broken.")
        return self.tasks.sample(tasks, seed, step)


def digest(*arrays: Any) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()[:16]


def main(given: dict[str, Any]) -> None:
    folder, said = Path(given["out"]), []
    gathers = gpus.installed(**given["gpus"]) if "gpus" in given else []
    joined("mpi")
    (folder / f"pid-{RANK}").write_text(str(os.getpid()))
    for name in given["learners"]:
        learner, tasks = TRAINED[name](given.get(f"device of rank {RANK}", given.get("device", "numpy")))
        source: Any = tasks
        if "slow" in given:
            source = Slow(tasks, given["slow"], given.get("fails", []))
        options: dict[str, Any] = {"tasks_per_step": 25, "seed": 3, "ranks": "mpi"} | given.get("fit", {})
        options |= given.get(f"fit of rank {RANK}", {})
        if "validate_every" in options:
            options["validation"] = tasks
        if given.get("callback") == "evaluate":
            options["callback"] = lambda *_: learner.evaluate(tasks, 2, ranks="mpi")  # noqa: B023
        learner.fit(source, given["iterations"], **options)
        if given.get("breaks") == RANK:
            raise ValueError("this program is broken.")
        if given.get("moves") == RANK:
            learner.theta = learner.theta + 1
        asked = {"episodes": 20, "seed": 5, "tasks_per_step": 3, "ranks": "mpi"} | given.get("evaluate", {})
        asked |= given.get(f"evaluate of rank {RANK}", {})
        score = learner.evaluate(Named(tasks, given["unsent"]) if "unsent" in given else tasks, **asked)
        parameters = digest(*(learner.parameters[n] for n in sorted(learner.parameters)))
        said.append([name, parameters, digest(learner.history["loss"]), score.stream, digest(score.values)])
        if given.get("keep") and RANK == 0:
            np.savez(folder / f"{name}.npz", **learner.parameters)
    (folder / f"gathers-{RANK}").write_text(str(len(gathers)))
    part = folder / f".done-{RANK}"
    part.write_text(json.dumps(said))
    part.rename(folder / f"done-{RANK}.json")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
