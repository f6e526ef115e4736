"""What twenty molecules say of a new assay's weights, where the training assays are the prior: in closed form.

`python -m examples.molecules.posterior DATA` prints which sizes of that prior are best for training assays left out.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.molecules.assays import EACH, Assays, ridges
from fastmeta.scores.areas import area

SIZES = ((0.05, 0.1, 0.2, 0.3, 0.45), (0.01, 0.04, 0.1), (0.05, 0.1, 0.25, 0.5))  # of mean, shared, own


@dataclass(frozen=True, eq=False)
class Prior:
    """Labels of -1 and 1 are w (x - centre) + b + noise of variance 1, for bits x (n, 2048) of a new assay.

    w ~ N(mean, D D' + diag(own)), where D is `shared` (2048, A), and b ~ N(rate, spread).
    """

    centre: NDArray[Any]
    mean: NDArray[Any]
    shared: NDArray[Any]
    own: NDArray[Any]
    rate: float
    spread: float

    def sized(self, mean: float, shared: float, own: float) -> Prior:
        """The same with outputs of other deviation, mean, and variances, shared and own."""
        return replace(self, mean=mean * self.mean, shared=np.sqrt(shared) * self.shared, own=own * self.own)

    def posterior(self, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
        """The mean of w (2048,) given molecules x (20, 2048) and labels y of 0 and 1."""
        x = x - self.centre
        slopes = x * self.own + x @ self.shared @ self.shared.T  # covariance of labels and w
        covariance = slopes @ x.T + self.spread + np.eye(len(x))
        gap = 2.0 * y - 1 - x @ self.mean - self.rate
        return self.mean + np.linalg.solve(covariance, gap) @ slopes


def learned(train: Assays, weights: NDArray[np.float64]) -> Prior:
    """The prior of the training assays' ridges (2048, A), each of its parts of size 1 over their molecules.

    The mean is theirs, D their deviations from it, `own` their mean squares; b is how active molecules are.
    """
    bits = (train.x > 0).astype(np.float32)
    centre, mean = bits.mean(axis=0), weights.mean(axis=1)
    beyond, own = weights - mean[:, None], np.square(weights).mean(axis=1)
    varying = np.square((bits - centre) @ beyond.astype(np.float32)).sum(axis=1).mean()
    share = (train.y == 1).sum(axis=0) / (train.y >= 0).sum(axis=0)
    return Prior(
        centre,
        mean / (bits @ mean.astype(np.float32)).std(),
        beyond / np.sqrt(varying),
        own / (own * centre * (1 - centre)).sum(),
        (2 * share - 1).mean(),
        (2 * share - 1).var(),
    )


def areas(prior: Prior, test: Assays, episodes: int) -> NDArray[np.float64]:
    """Areas (episodes, 2) without a support set and with it, on the episodes that `evaluate` draws."""
    found = np.zeros((episodes, 2))
    for i in range(episodes):
        one = test.sample(1, seed=1, step=i)
        rows = np.stack([prior.mean, prior.posterior(one.x_support[0] > 0, one.y_support[0])])
        outputs = rows.astype(np.float32) @ (one.x_query[0] > 0).T.astype(np.float32)
        found[i] = [area(row, one.y_query[0] == 1) for row in outputs]
    return found


def left_out(train: Assays, seed: int, draws: int = 6) -> dict[tuple[float, ...], float]:
    """By sizes: the mean gain in area on the prior's mean, over training assays left out, on 30 % of the molecules."""
    order = np.random.default_rng(seed).permutation(len(train.x))
    fit, rest = np.split(order, [int(0.7 * len(order))])
    weights = ridges(train.x[fit], train.y[fit], together=False)
    gains: dict[tuple[float, ...], list[float]] = {sizes: [] for sizes in itertools.product(*SIZES)}
    for left in range(weights.shape[1]):
        new = Assays(train.x[rest], train.y[rest][:, [left]])
        if min((new.y == kind).sum() for kind in (0, 1)) < EACH + 5:
            continue
        others = np.delete(train.y[fit], left, axis=1)
        prior = learned(Assays(train.x[fit], others), np.delete(weights, left, axis=1))
        for draw in range(draws):
            one = new.sample(1, seed, draw)
            x, y = one.x_support[0] > 0, one.y_support[0]
            rows = np.stack([prior.mean] + [prior.sized(*sizes).posterior(x, y) for sizes in gains])
            outputs = rows @ (one.x_query[0] > 0).T.astype(np.float64)
            base, *found = (area(row, one.y_query[0] == 1) for row in outputs)
            for sizes, value in zip(gains, found, strict=True):
                gains[sizes].append(value - base)
    return {sizes: float(np.mean(values)) for sizes, values in gains.items()}


def main() -> None:
    """Print the best sizes, the mean over seeds."""
    from examples.molecules.__main__ import TEST_ASSAYS, protocol

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args()
    for name in TEST_ASSAYS:
        each = [left_out(protocol(options.data, name, True, seed)[0], seed) for seed in options.seeds]
        best = sorted(each[0], key=lambda sizes: -sum(found[sizes] for found in each))[:4]
        print(f"{name}: sizes of mean, shared and own; gain in points, seeds {options.seeds}")
        for sizes in best:
            print(f"{sizes!s:<20}" + "".join(f"{100 * found[sizes]:>+8.2f}" for found in each), flush=True)


if __name__ == "__main__":
    main()
