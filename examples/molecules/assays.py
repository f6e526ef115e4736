"""Assays as tasks: ten active and ten inactive molecules are known, all others are to be ranked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastmeta as fm
from fastmeta.tasks.episode import stream

EACH = 10  # active molecules of a support set, and inactive ones
MOST_NEGATIVES = 3000


def read(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int8], list[str]]:
    """Fingerprints (n, 2048) of 0 and 255, so that tasks hold 0 and 1; y (n, assays) of 1, 0, or -1; their names."""
    with np.load(path) as file:
        start, bits, y = file["start"], file["bits"], file["y"]
        names = [str(name) for name in file["tasks"]]
    x = np.zeros((len(y), 2048), np.uint8)
    x[np.repeat(np.arange(len(y)), np.diff(start)), bits] = 255
    return x, y, names


@dataclass(frozen=True, eq=False)
class Assays:
    """Tasks of molecules x (n, 2048) with y (n, assays): 1 active, 0 inactive, -1 not measured.

    queries: of each kind, for training; None: all other molecules, with at most 3,000 inactive ones, and the assays
    in turn, for tests. Assays of too few molecules of a kind are left out.
    """

    x: NDArray[Any]
    y: NDArray[np.int8]
    queries: int | None = None
    measure = "auc"

    def sample(self, tasks: int, seed: int, step: int = 0) -> fm.Batch:
        """x (tasks, 20 or queries, 2048) and y of 0 and 1."""
        rng = stream(seed, step)
        least = EACH + (self.queries or 1)
        usable = [k for k in range(self.y.shape[1]) if min((self.y[:, k] == kind).sum() for kind in (0, 1)) >= least]
        chosen = rng.choice(usable, tasks) if self.queries else [usable[step % len(usable)]] * tasks
        support, query, labels = [], [], []
        for assay in chosen:
            inactive, active = (rng.permutation(np.flatnonzero(self.y[:, assay] == kind)) for kind in (0, 1))
            support.append(np.concatenate([inactive[:EACH], active[:EACH]]))
            more, others = (self.queries, self.queries) if self.queries else (MOST_NEGATIVES, len(active))
            rest = [inactive[EACH : EACH + more], active[EACH : EACH + others]]
            query.append(np.concatenate(rest))
            labels.append(np.repeat([0, 1], [len(part) for part in rest]))
        known = np.tile(np.repeat([0, 1], EACH), (tasks, 1))
        return fm.Batch(self.x[np.array(support)], known, self.x[np.array(query)], np.array(labels))


def ridges(x: NDArray[np.uint8], y: NDArray[np.int8], together: bool, strength: float = 30.0) -> NDArray[np.float64]:
    """Weights (2048, A) of ridge regressions on the activity in each assay; together: (2048, 1), on its mean.

    Activities are standardised in each assay.
    """
    bits, measured = (x > 0).astype(np.float64), y >= 0
    share = (y == 1).sum(axis=0) / measured.sum(axis=0)
    targets = np.where(measured, (y - share) / np.sqrt(share * (1 - share)), 0.0)
    if together:
        targets = targets.sum(axis=1, keepdims=True) / np.maximum(measured.sum(axis=1, keepdims=True), 1)
        measured = np.ones_like(targets, bool)
    weights = []
    for target, rows in zip(targets.T, measured.T, strict=True):
        centred = bits[rows] - bits[rows].mean(axis=0)
        gram = centred.T @ centred + strength * np.eye(bits.shape[1])
        weights.append(np.linalg.solve(gram, centred.T @ (target[rows] - target[rows].mean())))
    return np.stack(weights, axis=1)


def prior(x: NDArray[np.uint8], weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """theta of MLP((2048, 2)) that ranks molecules by the mean output of these ridges, without a support set."""
    mean = weights.mean(axis=1)
    mean *= 0.5 / ((x > 0) @ mean).std()
    shift = np.array([0.5, -0.5]) * ((x > 0) @ mean).mean()
    theta: NDArray[np.float32] = np.concatenate([np.stack([-mean, mean], axis=1).ravel() / 2, shift])
    return theta.astype(np.float32)


def with_outputs(known: Assays, new: Assays, weights: NDArray[np.float64], size: float = 1.5) -> Assays:
    """`new` with A more features: what each ridge says of a molecule beyond their mean, of this size together."""
    outputs, ours = ((one.x > 0) @ weights for one in (known, new))
    ours = (ours - outputs.mean(axis=0)) / outputs.std(axis=0)
    beyond = ours - ours.mean(axis=1, keepdims=True)
    beyond *= size / np.sqrt(np.square(beyond).sum(axis=1).mean())
    return replace(new, x=np.concatenate([new.x > 0, beyond], axis=1).astype(np.float32))
