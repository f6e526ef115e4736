"""Personalisation tasks: each group, such as a person, is a task, and the classes are the same for all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmeta import checks
from fastmeta.tasks.episode import Batch, features, stream
from fastmeta.tasks.labelled import check_samples, draw, stored


def from_groups(
    x: ArrayLike,
    y: ArrayLike,
    groups: ArrayLike,
    shots: int = 1,
    queries: int = 15,
    support: ArrayLike | None = None,
) -> GroupedTasks:
    """Tasks over samples of people, machines or places: learn one group's ways from a few of its samples.

    x (n, ...features): floats, or uint8 images, which come out divided by 255. y (n,): whole numbers, classes that
    mean the same in every group. groups (n,): whole numbers, whose sample it is. A task is a group drawn at
    random, with `shots` support and `queries` query samples of every class. support (n,): True where a sample may
    be in a support set; query sets are drawn from the others (for example: the first minute, and the rest).
    None: any in either.

    Raises ValueError or TypeError where shapes or kinds do not fit, a value is not finite, or a group has too few
    samples of a class.

    >>> rng = np.random.default_rng(0)
    >>> x, y, who = rng.random((80, 3)), np.arange(80) % 2, np.arange(80) // 20
    >>> from_groups(x, y, who, shots=2, queries=5).sample(6, seed=0).x_query.shape
    (6, 10, 3)
    """
    allowed = None if support is None else np.asarray(support)
    return GroupedTasks(np.asarray(x), np.asarray(y), np.asarray(groups), shots, queries, allowed)


@dataclass(frozen=True, eq=False)
class GroupedTasks:
    """Tasks of one group each, drawn from samples x (n, ...) with classes y (n,) and groups (n,); see `from_groups`.

    `classes` and `members` hold the distinct classes and groups in ascending order; label k of every task is
    classes[k]. Other sizes over the same samples: `dataclasses.replace(tasks, shots=5)`.
    """

    x: NDArray[Any] = field(repr=False)
    y: NDArray[Any] = field(repr=False)
    groups: NDArray[Any] = field(repr=False)
    shots: int = 1
    queries: int = 15
    support: NDArray[np.bool_] | None = field(default=None, repr=False)
    classes: NDArray[Any] = field(init=False, repr=False)
    members: NDArray[Any] = field(init=False, repr=False)
    _cells: dict[str, tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        checks.integer("shots", self.shots, 1)
        checks.integer("queries", self.queries, 1)
        check_samples(self.x, self.y)
        object.__setattr__(self, "x", stored(self.x))
        if self.groups.dtype.kind not in "iu" or self.groups.shape != self.y.shape:
            raise ValueError(
                f"groups of shape {self.groups.shape} and dtype {self.groups.dtype} must be whole numbers of shape "
                f"{self.y.shape}, one a sample. Number the people."
            )
        if self.support is not None and (self.support.dtype != bool or self.support.shape != self.y.shape):
            raise ValueError(
                f"support of shape {self.support.shape} and dtype {self.support.dtype} must be True or False for "
                f"each sample, {self.y.shape}."
            )
        classes, place = np.unique(self.y, return_inverse=True)
        members, owner = np.unique(self.groups, return_inverse=True)
        object.__setattr__(self, "classes", classes)
        object.__setattr__(self, "members", members)
        cell = owner * len(classes) + place  # (n,)
        parts = {"shots + queries": (cell, np.arange(len(cell)), self.shots + self.queries)}
        if self.support is not None:
            inside, outside = np.flatnonzero(self.support), np.flatnonzero(~self.support)
            parts = {"shots": (cell, inside, self.shots), "queries": (cell, outside, self.queries)}
        object.__setattr__(self, "_cells", {n: self._sorted(n, *part) for n, part in parts.items()})

    def sample(self, tasks: int, seed: int, step: int = 0) -> Batch:
        """x (tasks, classes * samples, ...) float32, y (tasks, classes * samples) int64, by class.

        A task's group is drawn with replacement, its support and query samples without. A pure function of
        (seed, step). Raises where tasks < 1, or seed or step is not a whole number >= 0.
        """
        rng = stream(seed, step)
        chosen = rng.integers(len(self.members), size=checks.integer("tasks", tasks, 1))
        count = len(self.classes)
        cells = (chosen[:, None] * count + np.arange(count)).ravel()  # (tasks * classes,)
        sizes = {"shots + queries": self.shots + self.queries, "shots": self.shots, "queries": self.queries}
        rows = []
        for name, (order, first, number) in self._cells.items():
            places = draw(rng, number[cells], sizes[name])
            rows.append(order[first[cells, None] + places].reshape(len(chosen), count, -1))
        support, query = rows if len(rows) == 2 else np.split(rows[0], [self.shots], axis=2)
        return Batch(*self._set(support), *self._set(query))

    def take(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """The samples of these places in x, of shape rows.shape + (...), as they come in tasks."""
        return features(self.x.take(rows, axis=0))  # type: ignore[no-any-return]

    def of(self, members: ArrayLike) -> GroupedTasks:
        """Tasks of these groups alone; ValueError where one is unknown or lacks a class."""
        wanted = np.atleast_1d(np.asarray(members))
        if unknown := sorted(set(wanted.tolist()) - set(self.members.tolist())):
            raise ValueError(f"members={wanted.tolist()} must be among {self.members.tolist()}; {unknown} are not.")
        rows = np.isin(self.groups, wanted)
        allowed = None if self.support is None else self.support[rows]
        return GroupedTasks(self.x[rows], self.y[rows], self.groups[rows], self.shots, self.queries, allowed)

    def _set(self, rows: NDArray[np.intp]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        tasks, classes, samples = rows.shape
        y = np.tile(np.repeat(np.arange(classes), samples), (tasks, 1))
        return self.take(rows.reshape(tasks, classes * samples)), y

    def _sorted(
        self, name: str, cell: NDArray[np.intp], rows: NDArray[np.intp], need: int
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """Rows cell by cell, where each cell begins, and how many it has; a cell is one class of one group."""
        count = np.bincount(cell[rows], minlength=len(self.members) * len(self.classes))
        fewest = int(count.argmin())
        if need > count[fewest]:
            group, place = divmod(fewest, len(self.classes))
            raise ValueError(
                f"{name}={need} must be at most {count[fewest]}, the number of such samples of class "
                f"{self.classes[place]} in group {self.members[group]}. Lower it, or leave that group or class out."
            )
        return rows[np.argsort(cell[rows], kind="stable")], np.cumsum(count) - count, count
