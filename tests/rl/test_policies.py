"""Policies: densities, entropies and divergences against closed forms of their own, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fastmeta as fm
from fastmeta import rl
from fastmeta.rl import policies


@pytest.mark.parametrize("width", [1, 2, 6])
def test_a_log_density_is_a_sum_over_the_action(width):
    rng = np.random.default_rng(width)
    means, log_std, actions = rng.normal(size=(3, 5, width))
    found = policies.log_probs("gaussian", np.concatenate([means, log_std], axis=1), actions)
    wanted = np.zeros(5)
    for a in range(width):
        std = np.exp(log_std[:, a])
        wanted += np.log(np.exp(-((actions[:, a] - means[:, a]) ** 2) / (2 * std**2)) / (std * math.sqrt(2 * math.pi)))
    assert np.abs(found - wanted).max() < 1e-12 * max(1, np.abs(wanted).max())


@pytest.mark.parametrize("kind", ["gaussian", "categorical"])
def test_divergence_is_a_mean_of_log_differences(kind):
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=(2, 4)) * 0.5
    many = np.broadcast_to(old, (1, 200_000, 4))
    drawn = policies.drawn(kind, many, rl.Noise(0, [0], 0))
    logs = [policies.log_probs(kind, np.broadcast_to(z, many.shape), drawn) for z in (old, new)]
    found = policies.divergence(kind, old, new)
    assert abs((logs[0] - logs[1]).mean() - found) < 4 * (logs[0] - logs[1]).std() / math.sqrt(200_000)
    assert abs(policies.entropy(kind, old) + logs[0].mean()) < 4 * logs[0].std() / math.sqrt(200_000)
    assert policies.divergence(kind, old, old) == 0


def test_the_policies_are_what_they_say():
    net = rl.gaussian_policy(3, 2, hidden=(8,), log_std=-0.5)
    z = net.predict(net.init(0), np.zeros((1, 3)), device="numpy")
    assert z.shape == (1, 4)
    assert z[0, 2:].tolist() == [-0.5, -0.5]
    assert policies.kind(net) == "gaussian"
    assert policies.kind(rl.categorical_policy(3, 4)) == "categorical"


def test_refused_policies():
    with pytest.raises(ValueError, match="must not have batch norm"):
        policies.kind(fm.Network([fm.Linear(4), fm.BatchNorm(), fm.Linear(2)], (3,)))
    with pytest.raises(ValueError, match="must append one log standard deviation an action"):
        policies.kind(fm.Network([fm.Linear(4), fm.Append(2)], (3,)))
    for log_std in (-20.0, 11.0):
        with pytest.raises(fm.DivergenceError, match="log standard deviation of the policy"):
            policies.check_spread("gaussian", np.array([[0.0, log_std]]))
