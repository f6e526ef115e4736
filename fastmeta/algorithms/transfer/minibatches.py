"""Batches of samples of all classes at once, as episodes that a learner takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from fastmeta import checks
from fastmeta.tasks.episode import Batch, stream
from fastmeta.tasks.transforms import transformed
from fastmeta_kernels.contract import Array


class LabelledSource(Protocol):
    """Labelled samples, as `fm.tasks.from_arrays` keeps them."""

    y: Array  # (n,) any whole numbers
    classes: Array  # (C,) the distinct ones, ascending
    class_names: tuple[Any, ...]  # what they are called

    def take(self, rows: Array) -> Array:
        """Samples rows.shape + (...), float32."""
        ...


@dataclass(frozen=True)
class Minibatches:
    """Batches of `size` samples drawn from all classes, labelled by place in `tasks.classes`."""

    tasks: LabelledSource
    size: int

    @property
    def class_names(self) -> tuple[Any, ...]:
        """What the classes are called."""
        return self.tasks.class_names

    @property
    def member_names(self) -> tuple[Any, ...] | None:
        """What the groups are called, where the samples are of groups."""
        return getattr(self.tasks, "member_names", None)

    @property
    def preparation(self) -> Any:
        """How the samples were prepared, where `tasks` know."""
        return getattr(self.tasks, "preparation", None)

    @cached_property
    def rows(self) -> Array:
        """(n,) places of the samples whose class is one of `tasks.classes`: small ones may be left out."""
        return np.flatnonzero(np.isin(self.tasks.y, self.tasks.classes))

    @cached_property
    def labels(self) -> Array:
        """(n,) in 0 .. C-1."""
        return np.searchsorted(self.tasks.classes, self.tasks.y[self.rows])

    def sample(self, tasks: int, seed: int, step: int = 0) -> Batch:
        """`tasks` batches as query sets (the support sets are the same); a pure function of (seed, step)."""
        return self.share(tasks, 0, tasks, seed, step)

    def share(self, tasks: int, begin: int, end: int, seed: int, step: int = 0) -> Batch:
        """Batches begin .. end - 1 of sample(tasks, seed, step): the same bits, and no others are gathered."""
        drawn = stream(seed, step).integers(len(self.rows), size=(checks.integer("tasks", tasks, 1), self.size))
        drawn = drawn[begin:end]
        x, y = self.tasks.take(self.rows[drawn]), self.labels[drawn]
        x = transformed(x, getattr(self.tasks, "transform", None), seed, step, begin)
        return Batch(x, y, x, y)

    def on_device(self, device: str) -> Minibatches:
        """The same batches from samples where `device` computes, where `tasks` can lie there."""
        return replace(self, tasks=self.tasks.on_device(device)) if hasattr(self.tasks, "on_device") else self
