"""What was exported, on episodes: the compiled artifact beside the learner, on the same tasks."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from fastmeta import checks
from fastmeta.exports.compiler import library
from fastmeta.learning.learner import Learner
from fastmeta.scores.comparison import Difference, compare
from fastmeta.scores.evaluation import episode_values
from fastmeta.scores.score import Score
from fastmeta.tasks.episode import Batch, TaskSource
from fastmeta_kernels.contract import Array


@dataclass(frozen=True)
class Trial:
    """Scores of an artifact and of its learner on the same episodes; str(trial) is a table."""

    artifact: Score
    original: Score

    @property
    def difference(self) -> Difference:
        """Artifact less original, paired by episode."""
        return compare(self.artifact, self.original)

    def __str__(self) -> str:
        rows = [("artifact", self.artifact), ("learner", self.original)]
        named = [(f"{name}{_norm(score)}", str(score)) for name, score in rows]
        named.append(("difference, paired", str(self.difference)))
        width = max(len(name) for name, _ in named)
        head = f"{self.artifact.measure} on {len(self.artifact.values):,} episodes ± 95 % interval"
        return "\n".join([head, *(f"{name:<{width}}  {value}" for name, value in named)])


def trial(
    folder: str | os.PathLike[str],
    name: str,
    learner: Learner,
    tasks: TaskSource,
    episodes: int,
    seed: int = 1,
    batch_norm: str = "",
) -> Trial:
    """Run the C artifact NAME in `folder` on the episodes that learner.evaluate(tasks, episodes, seed=seed) has.

    batch_norm: the artifact's, of which its score speaks. Raises RuntimeError without a C compiler, ValueError
    where an episode has more samples than the artifact was written for.
    """
    checks.integer("episodes", episodes, 1)
    with tempfile.TemporaryDirectory() as room:
        for file in (f"{name}.c", f"{name}.h", f"{name}.py"):
            (Path(room) / file).write_bytes((Path(folder) / file).read_bytes())
        library(room, name)
        model = _module(Path(room) / f"{name}.py").Model()

        def outputs(batch: Batch, steps: Sequence[int]) -> list[Array]:
            return [np.stack([_outputs(model, batch, task) for task in range(len(batch))])]

        found = episode_values(outputs, tasks, episodes, [0], seed, 25)
    return Trial(found.score(0, batch_norm), learner.evaluate(tasks, episodes, seed=seed))


def _outputs(model: ModuleType, batch: Batch, task: int) -> Array:
    x, y, queries = batch.x_support[task], batch.y_support[task], batch.x_query[task]
    x, queries = (np.ascontiguousarray(a, np.float32) for a in (x, queries))
    try:
        model.adapt(x, y.ravel().tolist())
        return np.array(model.outputs(queries))
    except ArithmeticError as error:
        raise checks.DivergenceError(str(error)) from error


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _norm(score: Score) -> str:
    return f", batch norm {score.batch_norm}" if score.batch_norm else ""
