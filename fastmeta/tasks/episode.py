"""A meta-batch: the support and query sets of T tasks."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastmeta import checks
from fastmeta.inputs import features
from fastmeta.networks import losses
from fastmeta_kernels.contract import Array
from fastmeta_kernels.host import is_elsewhere

EPISODES = 0x7A5C  # keeps these streams apart from default_rng(seed), which draws a network's first parameters


@dataclass(frozen=True)
class Batch:
    """The support and query sets of T tasks.

    x_support (T, N, ...), x_query (T, M, ...): floats, which may lie on a GPU, or uint8 pixels, which are divided by
    255. y_support (T, N), y_query (T, M):
    integer labels 0 .. ways-1, which mean cross-entropy; or y_support (T, N, O), y_query (T, M, O): float targets,
    which mean mean squared error. `support_weights` (T, N) and `query_weights` (T, M) multiply each sample's loss.
    `attributes` (T, K, A) describe the classes of each task, where something is known of them beside samples.

    Raises ValueError or TypeError where the shapes or kinds do not fit together.
    """

    x_support: NDArray[Any]
    y_support: NDArray[Any]
    x_query: NDArray[Any]
    y_query: NDArray[Any]
    support_weights: NDArray[Any] | None = None
    query_weights: NDArray[Any] | None = None
    attributes: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        for name in ("x_support", "y_support", "x_query", "y_query", "support_weights", "query_weights", "attributes"):
            value = getattr(self, name)
            if value is not None:
                stays = name.startswith("x_") and is_elsewhere(value)
                array = value if stays else checks.array(name, value)
                found = features(array) if name.startswith("x_") else array
                if found is not value:
                    object.__setattr__(self, name, found)
        for x, y, w in (
            ("x_support", "y_support", "support_weights"),
            ("x_query", "y_query", "query_weights"),
        ):
            _check_set(x, getattr(self, x), y, getattr(self, y), w, getattr(self, w))
        given = self.attributes
        if given is not None and (given.ndim != 3 or given.dtype.kind != "f" or len(given) != len(self.x_query)):
            raise ValueError(
                f"attributes of shape {given.shape} and dtype {given.dtype} must be floats of shape "
                f"({len(self.x_query)}, ways, attributes)."
            )
        if self.x_support.shape[0] != self.x_query.shape[0]:
            raise ValueError(
                f"x_support has {self.x_support.shape[0]} tasks but x_query has {self.x_query.shape[0]}. "
                "Both need the same leading axis T."
            )
        if self.x_support.shape[2:] != self.x_query.shape[2:]:
            raise ValueError(
                f"x_support has samples of shape {self.x_support.shape[2:]} but x_query of {self.x_query.shape[2:]}."
            )
        if (self.y_support.dtype.kind == "f") != (self.y_query.dtype.kind == "f"):
            raise ValueError(
                f"y_support is {self.y_support.dtype} but y_query is {self.y_query.dtype}. "
                "Use integer labels in both (cross-entropy) or float targets in both (mean squared error)."
            )

    def __len__(self) -> int:
        return int(self.x_support.shape[0])

    @property
    def nbytes(self) -> int:
        """The bytes of all arrays."""
        arrays = (getattr(self, f.name) for f in fields(self))
        return sum(int(array.nbytes) for array in arrays if array is not None)


class TaskSource(Protocol):
    """Whatever a learner trains and is evaluated on.

    Where it has a `measure`, a measure of `fm.Score`, evaluation scores that and not what the loss says. Where it has
    `class_names` and `classes_of(tasks, seed, step)`, (tasks, ways) places in them of the labels of that sample, scores
    know the classes: `Score.confusion`.
    """

    def sample(self, tasks: int, seed: int, step: int = 0) -> Batch:
        """`tasks` tasks, a pure function of (seed, step): the same bits wherever it is called."""
        ...


def stream(seed: int, step: int) -> np.random.Generator:
    """The random stream of one call of `sample`; seed and step are whole numbers of at least 0."""
    words = checks.integer("seed", seed, 0), checks.integer("step", step, 0), EPISODES
    if max(words) < 1 << 32:  # the same, and read in half the time
        return np.random.default_rng(np.array(words, np.uint32))
    return np.random.default_rng(words)


def _check_set(x_name: str, x: Array, y_name: str, y: Array, w_name: str, w: Any) -> None:
    if x.ndim < 3 or x.dtype.kind not in "fiub":
        raise ValueError(
            f"{x_name} of shape {x.shape} and dtype {x.dtype} must be numbers of shape (tasks, samples, ...features)."
        )
    losses.of(None, y, y_name).check(y_name, y, x.shape[:2])
    if w is not None and (w.dtype.kind != "f" or w.shape != x.shape[:2]):
        raise ValueError(f"{w_name} of shape {w.shape} and dtype {w.dtype} must be floats of shape {x.shape[:2]}.")


def check_source(tasks: Any) -> None:
    """Raise where `tasks` is no source of tasks."""
    if not callable(getattr(tasks, "sample", None)):
        raise TypeError(f"tasks={tasks!r} must have sample(tasks, seed, step), as fm.tasks.Sinusoid() has.")
