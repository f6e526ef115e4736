"""How much a learner's accuracy hangs on which row of its head a class is given (Ye & Chao 2022, arXiv 2106.16245)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations as all_orders
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta import checks
from fastmeta.floating import quiet
from fastmeta.learning.learner import Learner
from fastmeta.scores.evaluation import query_values
from fastmeta.tasks.episode import Batch, TaskSource

Array = NDArray[Any]
MOST_ORDERS = 120  # all of 5 ways


@dataclass(frozen=True)
class Permutations:
    """Accuracies of episodes under several orders of the head's rows."""

    orders: Array  # (R, K): order r gives class c the row orders[r, c]
    accuracy: Array  # (E, R)

    @property
    def mean(self) -> float:
        """Over episodes and orders: what `evaluate` estimates."""
        return float(self.accuracy.mean())

    @property
    def worst(self) -> float:
        """Mean over episodes of the worst order of each."""
        return float(self.accuracy.min(axis=1).mean())

    @property
    def best(self) -> float:
        """Mean over episodes of the best order of each: chosen by the query set, so out of reach."""
        return float(self.accuracy.max(axis=1).mean())

    @property
    def fixed(self) -> tuple[float, float]:
        """Worst and best of the orders kept for all episodes: how far the rows themselves differ."""
        means = self.accuracy.mean(axis=0)
        return float(means.min()), float(means.max())

    def table(self) -> str:
        """Four lines, in %."""
        low, high = self.fixed
        lines = [
            f"{len(self.accuracy)} episodes x {len(self.orders)} orders of {self.orders.shape[1]} rows, accuracy %"
        ]
        lines += [f"mean                        {100 * self.mean:6.2f}"]
        lines += [f"worst order of each episode {100 * self.worst:6.2f}"]
        lines += [f"best order of each episode  {100 * self.best:6.2f}"]
        return "\n".join([*lines, f"one order for all episodes  {100 * low:6.2f} .. {100 * high:.2f}"])

    __str__ = table

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Write a PNG: sorted accuracies of the orders, mean over episodes. Raises ModuleNotFoundError."""
        from fastmeta.lab import pictures

        ranked = np.sort(self.accuracy, axis=1).mean(axis=0)
        fixed = np.sort(self.accuracy.mean(axis=0))
        lines = {"ranked in each episode": 100 * ranked, "ranked over all": 100 * fixed}
        pictures.curves(
            os.fspath(path), np.arange(len(ranked)), lines, "order of the head's rows", ylabel="accuracy, %"
        )


@quiet
def permutations(
    learner: Learner,
    tasks: TaskSource,
    episodes: int = 40,
    orders: Sequence[Sequence[int]] | None = None,
    *,
    seed: int = 1,
) -> Permutations:
    """Accuracy of a fitted learner on each episode, with its classes given to the head's rows in each order.

    orders (R, K): by default all of K ways, or 120 at random where there are more. Episode i is
    tasks.sample(1, seed=seed, step=i). Raises TypeError where the targets are no labels.
    """
    checks.integer("episodes", episodes, 1)
    found, rows = [], None
    for step in range(episodes):
        episode = tasks.sample(1, seed=seed, step=step)
        if episode.y_query.dtype.kind not in "iu":
            raise TypeError("tasks must have labels: the outputs of a regression have no order. Use a classification.")
        if rows is None:
            rows = _orders(orders, int(episode.y_support.max()) + 1, seed)
        batch = _permuted(episode, rows)
        found.append(query_values(learner.query_outputs(batch), batch.y_query, batch.query_weights, "accuracy"))
    assert rows is not None
    return Permutations(rows, np.array(found))


def _orders(orders: Sequence[Sequence[int]] | None, ways: int, seed: int) -> Array:
    if orders is not None:
        rows = np.array(orders)
        if rows.ndim != 2 or (np.sort(rows, axis=1) != np.arange(ways)).any():
            raise ValueError(f"orders must be rows that hold each of 0 .. {ways - 1} once. Use None for all of them.")
        return rows
    if ways <= 5:
        return np.array(list(all_orders(range(ways))))
    rng = np.random.default_rng(seed)
    return np.array([rng.permutation(ways) for _ in range(MOST_ORDERS)])


def _permuted(episode: Batch, orders: Array) -> Batch:
    """One episode as a task an order."""

    def repeated(values: Array | None) -> Array | None:
        return None if values is None else np.repeat(values, len(orders), axis=0)

    attributes = episode.attributes
    if attributes is not None:
        attributes = attributes[0][np.argsort(orders, axis=1)]
    return replace(
        episode,
        x_support=np.repeat(episode.x_support, len(orders), axis=0),
        x_query=np.repeat(episode.x_query, len(orders), axis=0),
        y_support=orders[:, episode.y_support[0]],
        y_query=orders[:, episode.y_query[0]],
        support_weights=repeated(episode.support_weights),
        query_weights=repeated(episode.query_weights),
        attributes=attributes,
    )
