"""Scores of episodes: adapt to each support set, compare with each query set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta import checks
from fastmeta.tasks.episode import Batch, TaskSource

Array = NDArray[Any]
Outputs = Callable[[Batch, Sequence[int]], Sequence[Array]]


def episode_values(
    outputs: Outputs, tasks: TaskSource, episodes: int, steps: Sequence[int], seed: int, chunk: int
) -> tuple[dict[int, Array], str]:
    """One value an episode, (episodes,), for each number of inner steps; and whether "accuracy" or "mse".

    `outputs(batch, steps)` gives the query outputs (T, M, O) after each of the ascending `steps`. Episode i
    is tasks.sample(1, seed=seed, step=i); `chunk` episodes are computed together.
    """
    ascending = sorted(set(steps))
    values = {count: np.zeros(episodes) for count in ascending}
    measure = "accuracy"
    for begin in range(0, episodes, chunk):
        span = range(begin, min(begin + chunk, episodes))
        batch = _stack([tasks.sample(1, seed=seed, step=i) for i in span])
        measure = "mse" if batch.y_query.dtype.kind == "f" else "accuracy"
        try:
            results = outputs(batch, ascending)
        except checks.DivergenceError as error:
            raise checks.DivergenceError(f"Episodes {span.start} to {span.stop - 1}: {error}") from error
        for count, result in zip(ascending, results, strict=True):
            if not np.isfinite(result).all():
                raise checks.DivergenceError(
                    f"Episodes {span.start} to {span.stop - 1}: outputs after inner step {count} are not "
                    "finite. Lower inner_lr."
                )
            values[count][span.start : span.stop] = query_values(result, batch.y_query, batch.query_weights)
    return values, measure


def query_values(outputs: Array, y: Array, weights: Array | None) -> Array:
    """(T,) accuracies of outputs (T, M, O) against labels (T, M), or mean squared errors against (T, M, O).

    `weights` (T, M) weigh the samples; a weight of 0 leaves a padded sample out.
    """
    if y.dtype.kind == "f":
        samples = np.square(outputs.astype(np.float64) - y).mean(axis=2)
    else:
        samples = (outputs.argmax(axis=2) == y).astype(np.float64)
    averages: Array = np.average(samples, axis=1, weights=weights)
    return averages


def _stack(episodes: list[Batch]) -> Batch:
    stacked: dict[str, Any] = {}
    for name in (f.name for f in fields(Batch)):
        parts = [getattr(episode, name) for episode in episodes]
        stacked[name] = None if parts[0] is None else np.concatenate(parts)
    return Batch(**stacked)
