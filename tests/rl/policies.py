"""Small policies with trajectories of any distribution, for tests of derivatives."""

from __future__ import annotations

import numpy as np

from fastmeta import rl
from fastmeta.rl.adaptation import Adaptation
from fastmeta.rl.samples import Samples
from fastmeta.rl.trajectories import Trajectories

TASKS, TRAJECTORIES, STEPS, SEEN, ACTIONS = 3, 2, 4, 2, 2
KINDS = ("gaussian", "categorical")


def network(kind):
    make = rl.gaussian_policy if kind == "gaussian" else rl.categorical_policy
    return make(SEEN, ACTIONS, hidden=(5, 4), activation="tanh")


def theta(net, seed=0):
    return net.init(seed, dtype="float64") + 0.1 * np.random.default_rng(seed).standard_normal(net.parameter_count)


def samples(net, kind, seed, device="numpy"):
    """Steps of trajectories of unequal lengths, whose log-probabilities are those of some other policy."""
    rng, lead = np.random.default_rng(seed), (TASKS, TRAJECTORIES, STEPS)
    actions = rng.normal(size=(*lead, ACTIONS)) if kind == "gaussian" else rng.integers(0, ACTIONS, lead)
    data = Trajectories(
        rng.normal(size=(*lead, SEEN)),
        actions,
        rng.normal(size=lead),
        rng.integers(1, STEPS + 1, lead[:2]),
        rng.normal(-1, 0.2, lead),
    )
    return Samples.of(net, data, rng.normal(size=lead), np.float64, device)


def adaptation(net, kind, steps, surrogate, device="numpy"):
    rates = np.random.default_rng(9).uniform(0.1, 0.4, (steps, net.parameter_count))
    return Adaptation(tuple(samples(net, kind, 10 + k, device) for k in range(steps)), rates, surrogate)


def central(function, at, step=1e-5):
    """(P,) slopes of a scalar function, or of arrays the last axis of (.., P), by central differences."""
    columns = []
    for i in range(at.size):
        e = np.zeros(at.size)
        e[i] = step
        e = e.reshape(at.shape)
        columns.append((function(at + e) - function(at - e)) / (2 * step))
    return np.stack(columns, axis=-1)
