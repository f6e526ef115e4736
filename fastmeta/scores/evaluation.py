"""Scores of episodes: adapt to each support set, compare with each query set.

One file of more than 200 lines, because which episodes a rank scores and how they are scored are one stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastmeta import checks, memory
from fastmeta.floating import quiet
from fastmeta.networks import losses
from fastmeta.networks.losses import Loss
from fastmeta.networks.network import Network
from fastmeta.scores.answers import NONE, Answers, Recorder, joined, recorders
from fastmeta.scores.score import MEASURES, Score
from fastmeta.tasks.episode import Batch, TaskSource, check_source
from fastmeta.tasks.shares import cut, stacked
from fastmeta_kernels.contract import Array

Outputs = Callable[[Batch, Sequence[int]], Sequence[Array]]
Row = tuple[Array, Array]  # values (T,), and the label that each query sample was called (T, M)
_MIXED = "tasks must have integer labels in all episodes or float targets in all, not both."


class Scored(Protocol):
    """A learner, of which all ranks must have the same."""

    net: Network
    device: str

    @property
    def parameters(self) -> dict[str, Array]: ...
    def hyper_parameters(self) -> dict[str, Any]: ...


class Episodes(NamedTuple):
    """What a stream of episodes gave."""

    values: dict[int, Array]  # (episodes,) for each number of inner steps
    measure: str  # "accuracy", "auc" or "mse"
    stream: str  # the first 64 bits of the SHA-256 of the episodes' arrays, in hexadecimal
    answers: dict[int, Answers | None]  # what the query samples were called, where the tasks know their classes
    shares: list[str]  # hashes of the episodes that were scored, and on rank 0 of those of each other rank

    def score(self, steps: int = 0, batch_norm: str = "") -> Score:
        """The score after a number of inner steps."""
        return Score(self.values[steps], self.measure, batch_norm, self.stream, self.answers[steps])


def episode_values(
    outputs: Outputs,
    tasks: TaskSource,
    episodes: int,
    steps: Sequence[int],
    seed: int,
    chunk: int,
    loss: Loss | None = None,
    ranks: str | None = None,
    learner: Scored | None = None,
    batch_norm: str = "",
) -> Episodes:
    """One value an episode for each number of inner steps.

    `outputs(batch, steps)` gives the query outputs (T, M, O) after each of the ascending `steps`. Episode i
    is tasks.sample(1, seed=seed, step=i); of each `chunk` those of equal shapes are computed together. An episode
    whose adaptation diverges counts as an error of infinity or an accuracy of nan; where all do, DivergenceError.
    Tasks may name their own `measure`; otherwise that of the loss is taken.
    ranks: "mpi" shares the chunks among the processes that mpiexec started; all get the values that one would.
    ValueError on all of them where program, arguments, episodes or the `learner` differ, or how it takes `batch_norm`.
    """
    from fastmeta.ranks.joining import on_ranks  # late: who adapts has none

    with on_ranks(ranks, "cpu" if learner is None else learner.device) as group:
        checks.integer("episodes", episodes, 1)
        checks.integer("tasks_per_step", chunk, 1)
        check_source(tasks)
        ascending, chunks = sorted(set(steps)), -(-episodes // chunk)
        checks.choice("tasks.measure", getattr(tasks, "measure", None) or "mse", MEASURES)

        def share(rank: int, size: int) -> Episodes:
            ends = [min(r * chunks // size * chunk, episodes) for r in range(size + 1)]
            spans = [range(begin, end) for begin, end in pairwise(ends)]
            unseen = spans[1:] if rank == 0 else ()  # rank 0 names the stream
            return _values(outputs, tasks, spans[rank], unseen, ascending, seed, chunk, loss)

        if group is None:
            found = [share(0, 1)]
        else:
            asked = {"episodes": episodes, "inner_steps": ascending, "seed": seed, "tasks_per_step": chunk}
            group.same({name: str(value) for name, value in asked.items()} | _said(learner, batch_norm))
            found = group.gathered(lambda: share(group.rank, group.size))
            for rank, (part, expected) in enumerate(zip(found, found[0].shares, strict=True)):
                if part.shares[0] != expected:
                    raise group.unlike(f"rank {rank} draws other episodes from its tasks than rank 0.")
    measures = {part.measure for part in found if part.measure}
    if len(measures) > 1:
        raise ValueError(_MIXED)
    values = {count: np.concatenate([part.values[count] for part in found]) for count in ascending}
    for count, row in values.items():
        if not np.isfinite(row).any():
            raise checks.DivergenceError(
                f"All {episodes} episodes diverge within {count} inner steps. Likely causes: (a) inner_lr is too "
                "large: halve it; (b) the data are not scaled as in training."
            )
    answers = {count: joined([part.answers[count] for part in found]) for count in ascending}
    return Episodes(values, measures.pop(), found[0].stream, answers, found[0].shares)


def _said(learner: Scored | None, batch_norm: str) -> dict[str, str]:
    """What must be the same of a learner on all ranks."""
    from fastmeta.ranks import digests

    said = {"batch_norm": batch_norm}
    if learner is None:
        return said
    about = type(learner).__name__, learner.hyper_parameters(), learner.net.to_dict(), learner.parameters
    return said | {"device": learner.device, "learner": digests.of(about)}


def _values(
    outputs: Outputs,
    tasks: TaskSource,
    mine: range,
    unseen: Sequence[range],
    steps: Sequence[int],
    seed: int,
    chunk: int,
    loss: Loss | None,
) -> Episodes:
    """The values of the episodes `mine` alone; the stream is that of these and the `unseen`."""
    import hashlib

    with memory.counted("episodes", len(mine)):
        values = {count: np.zeros(len(mine)) for count in steps}
    measures, digest, own = {""}, hashlib.sha256(), getattr(tasks, "measure", None)
    recording: dict[int, Recorder] = {}
    for begin in range(mine.start, mine.stop, chunk):
        span = range(begin, min(begin + chunk, mine.stop))
        drawn = [_episode(tasks, seed, begin)]
        memory.check("tasks_per_step", len(span), 2 * drawn[0].nbytes)  # alone, and in their batch
        drawn += [_episode(tasks, seed, i) for i in span[1:]]
        measures |= {own or losses.of(loss, episode.y_query).measure for episode in drawn}
        if len(measures) > 2:
            raise ValueError(_MIXED)
        measure = max(measures)
        if begin == mine.start:
            recording = recorders(tasks, seed, mine, steps, measure)
        for episode in drawn:
            _update(digest, episode)
        for places in _alike(drawn):
            batch = stacked([drawn[i] for i in places])
            with memory.counted("tasks_per_step", len(places)):
                found = _chunk_values(outputs, batch, steps, measure)
            for count, (row, called) in found.items():
                values[count][begin - mine.start + places] = row
                if count in recording:
                    recording[count].add(begin + places, batch.y_query, called, batch.query_weights)
    shares = [digest.hexdigest()[:16]]
    for span in unseen:
        part = hashlib.sha256()
        for i in span:
            episode = _episode(tasks, seed, i)
            _update(digest, episode)
            _update(part, episode)
        shares.append(part.hexdigest()[:16])
    answers = {count: recording[count].answers() if recording else None for count in steps}
    return Episodes(values, max(measures), digest.hexdigest()[:16], answers, shares)


@quiet
def _chunk_values(outputs: Outputs, batch: Batch, steps: Sequence[int], measure: str) -> dict[int, Row]:
    """What each of the ascending `steps` gives; where the chunk diverges, its episodes are tried one by one."""
    try:
        results = [checks.array("outputs", result) for result in outputs(batch, steps)]
        if all(np.isfinite(result).all() for result in results):
            rows = [query_values(result, batch.y_query, batch.query_weights, measure) for result in results]
            called = [result.argmax(axis=-1) for result in results]
            return dict(zip(steps, zip(rows, called, strict=True), strict=True))
    except checks.DivergenceError:
        pass
    if len(batch) > 1:
        alone = [_chunk_values(outputs, cut(batch, i, i + 1), steps, measure) for i in range(len(batch))]
        parts = {count: zip(*(found[count] for found in alone), strict=True) for count in steps}
        return {count: (np.concatenate(rows), np.concatenate(called)) for count, (rows, called) in parts.items()}
    if len(steps) > 1:
        return {count: _chunk_values(outputs, batch, [count], measure)[count] for count in steps}
    worst = np.array([np.inf if measure == "mse" else np.nan])
    return {steps[0]: (worst, np.full(batch.x_query.shape[:2], NONE))}


def _episode(tasks: TaskSource, seed: int, i: int) -> Batch:
    episode = tasks.sample(1, seed=seed, step=i)
    if not isinstance(episode, Batch) or len(episode) != 1:
        got = f"{len(episode)} tasks" if isinstance(episode, Batch) else type(episode)
        raise ValueError(f"tasks.sample(1, seed={seed}, step={i}) must give a fastmeta.Batch of one task, not {got}.")
    return episode


def _alike(episodes: Sequence[Batch]) -> list[Array]:
    """Places of the episodes that can be one batch: of the same shapes, dtypes and number of classes."""
    groups: dict[Any, list[int]] = {}
    for i, episode in enumerate(episodes):
        arrays = [getattr(episode, f.name) for f in fields(Batch)]
        key = [None if array is None else (array.shape, array.dtype.str) for array in arrays]
        labels = episode.y_support
        ways = int(labels.max(initial=-1)) if labels.dtype.kind != "f" else 0
        groups.setdefault((*key, ways), []).append(i)
    return [np.array(places) for places in groups.values()]


def _update(digest: Any, episode: Batch) -> None:
    for f in fields(Batch):
        array = getattr(episode, f.name)
        if array is not None:
            digest.update(f"{f.name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)


def query_values(outputs: Array, y: Array, weights: Array | None, measure: str) -> Array:
    """(T,) accuracies or areas of outputs (T, M, O) against labels (T, M), or mean squared errors against (T, M, O).

    `weights` (T, M) weigh the samples; a weight of 0 leaves a padded sample out.
    """
    if weights is not None and ((weights < 0).any() or not weights.any(axis=1).all()):
        raise ValueError("query_weights must be at least 0 to score an episode, and one of them above 0.")
    if measure == "auc":
        from fastmeta.scores.areas import two_class_areas

        return two_class_areas(outputs, y, weights)
    if measure == "mse":
        samples = np.square(outputs.astype(np.float64) - y).mean(axis=2)
    else:
        samples = (outputs.argmax(axis=2) == y).astype(np.float64)
    averages: Array = np.average(samples, axis=1, weights=weights)
    return averages
