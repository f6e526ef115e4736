"""Advantages: against sums written out, and what they do where nothing differs."""

from __future__ import annotations

import numpy as np
import pytest

from fastmeta import rl
from fastmeta.rl.baseline import fitted, normalised


def _data(seed=0, lengths=((4, 2), (1, 3))):
    rng = np.random.default_rng(seed)
    return rl.Trajectories(rng.normal(size=(2, 2, 4, 3)), rng.normal(size=(2, 2, 4, 1)), rng.normal(size=(2, 2, 4)),
                           np.array(lengths))  # fmt: skip


def test_without_a_baseline_they_are_normalised_discounted_sums():
    data = _data()
    found = rl.advantages(data, 0.9, 1.0, "none").values
    raw = np.zeros((2, 2, 4))
    for place in np.ndindex(2, 2):
        rewards = data.rewards[place][: data.lengths[place]]
        for t in range(len(rewards)):
            raw[(*place, t)] = sum(0.9**k * r for k, r in enumerate(rewards[t:]))
    assert np.allclose(found, normalised(raw, data.mask))
    for task in range(2):
        counted = found[task][data.mask[task]]
        assert abs(counted.mean()) < 1e-12
        assert abs(counted.std() - 1) < 1e-6
    assert not found[~data.mask].any()


def test_of_one_step_ahead_they_are_differences():
    data = _data()
    found = rl.advantages(data, 0.9, 0.0, "linear").values
    one = rl.advantages(data, 0.9, 0.0, "none").values
    assert np.allclose(one, normalised(np.where(data.mask, data.rewards, 0), data.mask))
    assert not np.allclose(found, one)


def test_a_linear_return_is_explained():
    rng = np.random.default_rng(0)
    seen = rng.uniform(-1, 1, (2, 30, 1, 3))
    data = rl.Trajectories(seen, np.zeros((2, 30, 1), int), seen[..., 0] + 0.1 * rng.normal(size=(2, 30, 1)))
    assert rl.advantages(data, 0.99, 1.0).explained > 0.95


def test_pooled_means_are_those_of_all_tasks():
    data = _data()
    found = rl.advantages(data, 0.9, 1.0, "none", pooled=True).values[data.mask]
    assert abs(found.mean()) < 1e-12
    assert abs(rl.advantages(data, 0.9, 1.0, "none", pooled=True).values[0][data.mask[0]].mean()) > 1e-3


def test_equal_rewards_give_zeros_and_a_warning():
    data = rl.Trajectories(np.ones((2, 3, 1, 1)), np.zeros((2, 3, 1), int), np.ones((2, 3, 1)))
    with pytest.warns(UserWarning, match="All advantages are equal"):
        found = rl.advantages(data, 0.9, 1.0).values
    assert not found.any()


def test_one_task_of_equal_rewards_is_left_alone_in_silence():
    rewards = np.ones((2, 3, 1))
    rewards[1, 0] = 0
    data = rl.Trajectories(np.ones((2, 3, 1, 1)), np.zeros((2, 3, 1), int), rewards)
    found = rl.advantages(data, 0.9, 1.0).values
    assert not found[0].any()
    assert found[1].any()


def test_a_singular_baseline_says_so():
    with pytest.raises(ValueError, match=r"must have a solution; with a ridge of 1 it has none"):
        fitted(np.full((1, 2, 2, 3), np.nan), np.ones((1, 2, 2)))
