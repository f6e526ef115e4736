"""Which classes are taken for which, and how well each is told: by class name, over the episodes of a score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastmeta.floating import quiet
from fastmeta.scores.answers import NONE, Answers
from fastmeta_kernels.contract import Array

MOST = 20  # classes of a matrix that is written out, and confusions that are listed where there are more


@dataclass(frozen=True, eq=False)
class Confusion:
    """Query samples of class i that were called class j, over all episodes that did not diverge.

    A sample can only be called one of its episode's classes: `met` (C, C) counts the samples of class i in whose
    episodes class j was, and `rates` are the shares of those that were called j; nan where the two never met.
    `none` (C,) counts those that were called none of the episode's classes, as a network with more outputs than an
    episode has classes can. Counts are whole, or sums of the samples' weights where tasks have weights.
    """

    names: tuple[Any, ...]
    counts: Array  # (C, C): of class i, called j
    met: Array  # (C, C)
    none: Array  # (C,)

    @property
    @quiet
    def rates(self) -> Array:
        """(C, C): shares of the samples of class i in episodes with class j that were called j."""
        return np.where(self.met > 0, self.counts / np.where(self.met > 0, self.met, 1), np.nan)

    def table(self) -> str:
        """The counts, a line a class; of more than 20 classes the 20 most frequent confusions."""
        names = [str(name) for name in self.names]
        width = max(map(len, names))
        if len(names) > MOST:
            wrong = self.counts * (1 - np.eye(len(names), dtype=self.counts.dtype))
            pairs = [divmod(int(place), len(names)) for place in np.argsort(-wrong, axis=None, kind="stable")[:MOST]]
            lines = [
                f"{names[i]:{width}}  {names[j]:{width}}  {wrong[i, j]:7g} of {self.met[i, j]:g}"
                for i, j in pairs
                if wrong[i, j]
            ]
            return "\n".join([f"{'class':{width}}  {'called':{width}}    times", *lines])
        columns, counts = [*names], self.counts
        if self.none.any():
            columns, counts = [*names, "none of them"], np.column_stack([self.counts, self.none])
        cells = [[f"{count:g}" for count in row] for row in counts]
        widths = [
            max(len(name), *map(len, column)) for name, column in zip(columns, zip(*cells, strict=True), strict=True)
        ]
        rows = [[f"{cell:>{w}}" for cell, w in zip(row, widths, strict=True)] for row in [columns, *cells]]
        return "\n".join(f"{name:{width}}  {'  '.join(row)}" for name, row in zip(["", *names], rows, strict=True))

    __str__ = table


@dataclass(frozen=True, eq=False)
class ClassAccuracies:
    """How well each class is told from the others: the mean over the episodes that it was in, and half the 95 %
    interval of that mean, 1.96 * std / sqrt(episodes); nan where no episode had it."""

    names: tuple[Any, ...]
    means: Array  # (C,) in [0, 1]
    ci95: Array  # (C,)
    episodes: Array  # (C,)
    samples: Array  # (C,)

    def table(self) -> str:
        """A line a class, the worst first; classes that no episode had are left out."""
        names = [str(name) for name in self.names]
        width = max(5, *map(len, names))
        lines = [
            f"{names[i]:{width}}  {100 * self.means[i]:6.2f} % ± {100 * self.ci95[i]:5.2f}"
            f"  {self.episodes[i]:8d}  {self.samples[i]:7g}"
            for i in np.argsort(self.means, kind="stable")
            if self.episodes[i]
        ]
        return "\n".join([f"{'class':{width}}          accuracy  episodes  samples", *lines])

    __str__ = table


def confusion(answers: Answers) -> Confusion:
    """The confusion of all episodes."""
    count, (episode, label, called) = len(answers.names), answers.cells.T
    classes = answers.classes
    true, found = classes[episode, label], np.where(called == NONE, count, classes[episode, called])
    wide = np.bincount(true * (count + 1) + found, answers.counts, count * (count + 1)).reshape(count, count + 1)
    met = np.zeros((count, count))
    for column in range(classes.shape[1]):
        other = classes[episode, column]
        there = other != NONE
        np.add.at(met, (true[there], other[there]), answers.counts[there])
    wide, met = (a.astype(answers.counts.dtype) for a in (wide, met))
    return Confusion(answers.names, wide[:, :count], met, wide[:, count])


@quiet
def class_accuracies(answers: Answers) -> ClassAccuracies:
    """Accuracies over episodes, one for each class."""
    count, (episode, label, called) = len(answers.names), answers.cells.T
    ways = answers.classes.shape[1]
    places = episode * ways + label
    total, right = (
        np.bincount(places, answers.counts * chosen, answers.classes.size) for chosen in (1, label == called)
    )
    there = total > 0
    shares, owner = right[there] / total[there], answers.classes.ravel()[there]
    episodes = np.bincount(owner, minlength=count)
    some = np.where(episodes > 0, episodes, 1)
    means = np.bincount(owner, shares, count) / some
    spread = np.bincount(owner, np.square(shares - means[owner]), count) / some
    unseen = np.where(episodes > 0, 0, np.nan)
    samples = np.bincount(owner, total[there], count).astype(answers.counts.dtype)
    return ClassAccuracies(answers.names, means + unseen, 1.96 * np.sqrt(spread / some) + unseen, episodes, samples)
