"""Personalisation tasks: each group, such as a person, is a task, and the classes are the same for all.

One file of more than 200 lines, because labels and targets of groups are drawn by the same rules.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmeta import checks
from fastmeta.inputs import features
from fastmeta.labels import numbered
from fastmeta.tasks.episode import Batch, stream
from fastmeta.tasks.labelled import check_samples, draw, stored
from fastmeta.tasks.sizes import SMALL, Size, checked_size, drawn, lowest


def from_groups(
    x: ArrayLike,
    y: ArrayLike | Sequence[Hashable],
    groups: ArrayLike | Sequence[Hashable],
    shots: Size = 1,
    queries: Size = 15,
    support: ArrayLike | None = None,
    small_groups: str = "refuse",
) -> GroupedTasks:
    """Tasks over samples of people, machines or places: learn one group's ways from a few of its samples.

    x (n, ...features): floats, or uint8 images, which come out divided by 255. y (n,): whole numbers, strings or other
    labels as in `from_arrays`, classes that mean the same in every group; or (n,) or (n, outputs) floats, targets of a
    regression. groups (n,): likewise whole numbers or other labels, whose sample it is. A task is a group drawn at
    random, with `shots` support and `queries` query samples of every class, or in a regression of the group. Either may
    be a range, as in `from_arrays`. support (n,): True where a sample may be in a support set; query sets are drawn
    from the others (for example: the first minute, and the rest). None: any in either.

    small_groups: a group with too few samples, of a class or in all, is an error, "refuse"; is left out, "skip"; or
    is used, "use", with as many queries as it has. `left_out` has those left out.

    Raises ValueError or TypeError where shapes or kinds do not fit, a value is masked or not finite, or a group is
    too small.

    >>> rng = np.random.default_rng(0)
    >>> x, y, who = rng.random((80, 3)), np.arange(80) % 2, np.arange(80) // 20
    >>> from_groups(x, y, who, shots=2, queries=5).sample(6, seed=0).x_query.shape
    (6, 10, 3)
    """
    allowed = None if support is None else checks.array("support", support)
    return GroupedTasks(checks.array("x", x), y, groups, shots, queries, allowed, small_groups)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class GroupedTasks:
    """Tasks of one group each, drawn from samples x (n, ...) with classes or targets y and groups (n,); see
    `from_groups`.

    `classes` and `members` hold the distinct classes and groups in ascending order, as numbers; `class_names` and
    `member_names` are what they are called. Label k of every task is classes[k]. In a regression there are no classes,
    and y (n, outputs) is float32. Other sizes over the same samples: `dataclasses.replace(tasks, shots=5)`.
    """

    x: NDArray[Any] = field(repr=False)
    y: NDArray[Any] = field(repr=False)
    groups: NDArray[Any] = field(repr=False)
    shots: Size = 1
    queries: Size = 15
    support: NDArray[np.bool_] | None = field(default=None, repr=False)
    small_groups: str = "refuse"
    names: tuple[Any, ...] = field(default=(), repr=False)  # of the distinct numbers in y; or they are names
    group_names: tuple[Any, ...] = field(default=(), repr=False)  # likewise in groups
    classes: NDArray[Any] = field(init=False, repr=False)
    members: NDArray[Any] = field(init=False, repr=False)
    member_names: tuple[Any, ...] = field(init=False, repr=False)
    left_out: tuple[Any, ...] = field(init=False, repr=False)
    _cells: tuple[_Cells, ...] = field(init=False, repr=False)  # of all samples, or of support and query samples

    def __post_init__(self) -> None:
        x = checks.array("x", self.x)
        y, names = (self.y, self.names) if self.names else numbered("y", self.y)
        groups, called = (self.groups, self.group_names) if self.group_names else numbered("groups", self.groups)
        if y.dtype.kind == "f":
            y = targets(x, y)
            classes, place = np.zeros(0, np.int64), np.zeros(len(y), np.int64)
        else:
            check_samples(x, y)
            classes, place = np.unique(y, return_inverse=True)
        if groups.dtype.kind not in "iu" or groups.shape != y.shape[:1]:
            raise ValueError(
                f"groups of shape {groups.shape} and dtype {groups.dtype} must be whole numbers of shape "
                f"{y.shape[:1]}, one a sample, or strings, tuples and other labels."
            )
        if self.support is not None and (self.support.dtype != bool or self.support.shape != groups.shape):
            raise ValueError(
                f"support of shape {self.support.shape} and dtype {self.support.dtype} must be True or False for "
                f"each sample, {groups.shape}."
            )
        members, owner = np.unique(groups, return_inverse=True)
        cell = owner * max(len(classes), 1) + place  # (n,) a class of a group, or a group
        rows = [np.arange(len(cell))]
        if self.support is not None:
            rows = [np.flatnonzero(self.support), np.flatnonzero(~self.support)]
        found: dict[str, Any] = {
            "shots": checked_size("shots", self.shots),
            "queries": checked_size("queries", self.queries),
            "small_groups": checks.choice("small_groups", self.small_groups, SMALL),
            "_cells": tuple(_Cells.of(cell, some, (len(members), max(len(classes), 1))) for some in rows),
        }
        found |= {"x": stored(x), "y": y, "groups": groups, "classes": classes, "members": members}
        checks.settle(self, **found, names=names, group_names=called)
        self._check_sizes()

    def sample(self, tasks: int, seed: int, step: int = 0) -> Batch:
        """x (tasks, classes * samples, ...) float32, y (tasks, classes * samples) int64, by class; or, in a
        regression, x (tasks, samples, ...) and y (tasks, samples, outputs) float32.

        A task's group is drawn with replacement, its support and query samples without. A pure function of
        (seed, step). Raises where tasks < 1, or seed or step is not a whole number >= 0.
        """
        return self.share(tasks, 0, tasks, seed, step)

    def share(self, tasks: int, begin: int, end: int, seed: int, step: int = 0) -> Batch:
        """Tasks begin .. end - 1 of sample(tasks, seed, step): the same bits, and no others are gathered."""
        rng = stream(seed, step)
        chosen = rng.integers(len(self.members), size=checks.integer("tasks", tasks, 1))
        fewest = [int(cells.number[chosen].min()) for cells in self._cells]
        apart = len(fewest) > 1
        shots = drawn(rng, self.shots, fewest[0] if apart else fewest[0] - self._least_queries)
        queries = drawn(rng, self.queries, fewest[1] if apart else fewest[0] - shots)
        sizes = (shots, queries) if apart else (shots + queries,)
        rows = [cells.draw(rng, chosen, number)[begin:end] for cells, number in zip(self._cells, sizes, strict=True)]
        support, query = rows if apart else np.split(rows[0], [shots], axis=2)
        return Batch(*self._set(support), *self._set(query))

    def take(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """The samples of these places in x, of shape rows.shape + (...), as they come in tasks."""
        return features(self.x.take(rows, axis=0))  # type: ignore[no-any-return]

    @property
    def class_names(self) -> tuple[Any, ...]:
        """What each of `classes` is called."""
        return self.names or tuple(self.classes.tolist())

    def classes_of(self, tasks: int, seed: int, step: int = 0) -> NDArray[np.int64]:
        """(tasks, classes): which of `class_names` each label of sample(tasks, seed, step) is."""
        return np.tile(np.arange(len(self.classes)), (checks.integer("tasks", tasks, 1), 1))

    def of(self, members: Any) -> GroupedTasks:
        """Tasks of this group alone, or of these; ValueError where one is unknown or lacks a class."""
        known = list(self.member_names)
        given = members.tolist() if isinstance(members, np.ndarray | np.generic) else members
        wanted = (
            list(given)
            if isinstance(given, list | set) or (isinstance(given, tuple) and given not in known)
            else [given]
        )
        if unknown := [name for name in wanted if name not in known]:
            raise ValueError(f"members={wanted} must be among {known}; {unknown} are not.")
        places = sorted({known.index(name) for name in wanted})
        rows = np.isin(self.groups, self.members[places])
        allowed = None if self.support is None else self.support[rows]
        names = tuple(known[place] for place in places) if self.group_names else ()
        parts: dict[str, Any] = {"x": self.x[rows], "y": self.y[rows], "groups": self.groups[rows]}
        return replace(self, **parts, support=allowed, group_names=names)

    def _set(self, rows: NDArray[np.intp]) -> tuple[NDArray[np.float32], NDArray[Any]]:
        tasks, classes, samples = rows.shape
        rows = rows.reshape(tasks, classes * samples)
        if not len(self.classes):
            return self.take(rows), self.y[rows]
        return self.take(rows), np.tile(np.repeat(np.arange(classes), samples), (tasks, 1))

    @property
    def _least_queries(self) -> int:
        return 1 if self.small_groups == "use" else lowest(self.queries)

    def _check_sizes(self) -> None:
        """Leave out the groups that are too small, or raise."""
        members = self.group_names or tuple(self.members.tolist())
        names, needs = ["shots", "queries"], [lowest(self.shots), self._least_queries]
        if self.support is None:
            names, needs = ["shots + queries"], [sum(needs)]
        kept = np.ones(len(self.members), bool)
        for name, need, cells in zip(names, needs, self._cells, strict=True):
            if need > (fewest := cells.number.min()) and self.small_groups == "refuse":
                group, place = divmod(int(cells.number.argmin()), cells.number.shape[1])
                of_class = f"of class {self.class_names[place]} " if len(self.classes) else ""
                raise ValueError(
                    f"{name}={need} must be at most {fewest}, the number of such samples {of_class}in group "
                    f'{members[group]}. Lower it, or leave such groups out: small_groups="skip" does, '
                    '"use" takes the queries that they have.'
                )
            kept &= (cells.number >= need).all(axis=1)
        if not kept.any():
            raise ValueError(f"{' and '.join(names)} must leave at least one group; all are too small. Lower them.")
        left_out, member_names = (tuple(members[i] for i in np.flatnonzero(some)) for some in (~kept, kept))
        rest = tuple(cells.kept(kept) for cells in self._cells)
        checks.settle(self, left_out=left_out, member_names=member_names, members=self.members[kept], _cells=rest)


class _Cells(NamedTuple):
    """Samples cell by cell; a cell is one class of one group."""

    order: NDArray[np.intp]  # (n,) samples
    first: NDArray[np.intp]  # (groups, classes) where each cell begins in `order`
    number: NDArray[np.intp]  # (groups, classes) how many it has

    @classmethod
    def of(cls, cell: NDArray[np.intp], rows: NDArray[np.intp], shape: tuple[int, int]) -> _Cells:
        """The samples `rows`, whose cells `cell` (n,) numbers."""
        count = np.bincount(cell[rows], minlength=shape[0] * shape[1])
        first = (np.cumsum(count) - count).reshape(shape)
        return cls(rows[np.argsort(cell[rows], kind="stable")], first, count.reshape(shape))

    def kept(self, groups: NDArray[np.bool_]) -> _Cells:
        """The cells of these groups."""
        return self._replace(first=self.first[groups], number=self.number[groups])

    def draw(self, rng: np.random.Generator, groups: NDArray[np.intp], samples: int) -> NDArray[np.intp]:
        """(tasks, classes, samples) different samples of each cell of `groups` (tasks,)."""
        first, number = self.first[groups], self.number[groups]
        places = draw(rng, number.ravel(), samples).reshape(*number.shape, samples)
        rows: NDArray[np.intp] = self.order[first[:, :, None] + places]
        return rows


def targets(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float32]:
    """Float targets (n,) or (n, outputs) of samples x (n, ...) as (n, outputs)."""
    if y.ndim not in (1, 2) or y.shape[:1] != x.shape[:1] or not y.size:
        raise ValueError(
            f"y of shape {y.shape} and dtype {y.dtype} must be targets (n,) or (n, outputs) of a regression, one row a "
            f"sample of x {x.shape}; or whole numbers, which are classes."
        )
    check_samples(x, np.zeros(len(x), np.int64))
    return stored(y.reshape(len(y), -1), "y")
