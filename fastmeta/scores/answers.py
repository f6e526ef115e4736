"""What the query samples of episodes were called: enough for every confusion, a few bytes a class and episode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastmeta_kernels.contract import Array

NONE = -1  # a label that is none of the episode's classes


class Answers(NamedTuple):
    """The query samples of episodes, counted by episode, label and the label that they were called."""

    names: tuple[Any, ...]  # of all classes
    classes: Array  # (episodes, K) int32: which of `names` each label is, NONE where an episode has fewer
    cells: Array  # (cells, 3) int32: episode, label, called
    counts: Array  # (cells,) int64, or float64 sums of the samples' weights


class Recorder:
    """Gathers the answers of episodes `begin` .. , whose labels are these `classes` (episodes, K), named `names`."""

    def __init__(self, names: tuple[Any, ...], classes: Array, begin: int) -> None:
        self.names, self.classes, self.begin = names, classes, begin
        self.parts: list[tuple[Array, Array]] = []

    def add(self, episodes: Array, y: Array, called: Array, weights: Array | None) -> None:
        """Labels y and called (T, M) of these episodes (T,); where an episode diverged nothing is called, `NONE`."""
        if y.max() >= self.classes.shape[1] or (self.classes[episodes[:, None] - self.begin, y] == NONE).any():
            raise ValueError("tasks.classes_of must give the class of every label of an episode; it lacks some.")
        ways = 1 + max(int(called.max()), self.classes.shape[1])
        keys = (np.arange(len(y))[:, None] * ways + y) * ways + called
        seen = called != NONE
        found, place = np.unique(keys[seen], return_inverse=True)
        counts = np.bincount(place, None if weights is None else weights[seen], len(found))
        row, label, answer = found // ways**2, found // ways % ways, found % ways
        answer = np.where(answer < (self.classes[episodes[row] - self.begin] != NONE).sum(axis=1), answer, NONE)
        self.parts.append((np.stack([episodes[row], label, answer], axis=1).astype(np.int32), counts))

    def answers(self) -> Answers:
        """All that were added."""
        cells = np.concatenate([cells for cells, _ in self.parts] or [np.zeros((0, 3), np.int32)])
        counts = np.concatenate([counts for _, counts in self.parts] or [np.zeros(0, np.int64)])
        order = np.lexsort(cells.T[::-1])
        return Answers(self.names, self.classes, cells[order], counts[order])


def recorders(tasks: Any, seed: int, span: range, steps: Sequence[int], measure: str) -> dict[int, Recorder]:
    """One for each number of inner steps, where tasks name the classes of episodes and these are scored by labels."""
    if measure not in ("accuracy", "auc") or not hasattr(tasks, "class_names") or not hasattr(tasks, "classes_of"):
        return {}
    names = tuple(tasks.class_names)
    rows = [np.asarray(tasks.classes_of(1, seed=seed, step=i)).reshape(-1) for i in span]
    classes = np.full((len(span), max(map(len, rows))), NONE, np.int32)
    for place, row in enumerate(rows):
        classes[place, : len(row)] = row
    if classes.max() >= len(names):
        raise ValueError(f"tasks.classes_of must give places in tasks.class_names, below {len(names)}.")
    return {count: Recorder(names, classes, span.start) for count in steps}


def joined(parts: Sequence[Answers | None]) -> Answers | None:
    """The answers of consecutive episodes, each part of which counts them from the first of all."""
    found = [part for part in parts if part is not None and len(part.classes)]
    if not found:
        return None
    ways = max(part.classes.shape[1] for part in found)
    wide = [np.pad(part.classes, ((0, 0), (0, ways - part.classes.shape[1])), constant_values=NONE) for part in found]
    cells, counts = ([getattr(part, name) for part in found] for name in ("cells", "counts"))
    return Answers(found[0].names, np.concatenate(wide), np.concatenate(cells), np.concatenate(counts))
