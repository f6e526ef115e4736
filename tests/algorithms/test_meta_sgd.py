from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

import fastmeta as fm
from tests.algorithms.learners import Fixed, meta_gradient_errors
from tests.gradients.test_gradients import EVERYDAY, cases

NET = fm.MLP((1, 20, 20, 1), activation="tanh")
SINE = fm.tasks.Sinusoid(shots=10, queries=10)


@EVERYDAY
@given(drawn=cases())
def test_meta_gradients_against_central_differences(drawn):
    case, seed, weighted, _, steps, _ = drawn
    theta, batch = case.make(seed=seed, weighted=weighted)
    rates = np.random.default_rng(seed).uniform(-0.05, 0.1, theta.shape)
    learner = fm.MetaSGD(case.network, rates, max(steps, 1), device="numpy").fit(Fixed(batch), 0, theta=theta)
    errors = meta_gradient_errors(learner, batch, seed)
    assert errors.keys() == {"theta", "inner_lr"}
    assert max(errors.values()) <= 1e-7


def test_learned_rates_beat_those_it_started_from():
    fixed, learned = fm.MAML(NET, 0.01, device="numpy"), fm.MetaSGD(NET, 0.01, device="numpy")
    for learner in (fixed, learned):
        learner.fit(SINE, 200, tasks_per_step=10, optimizer=fm.Adam(3e-3))
    assert learned.rates.shape == (NET.parameter_count,)
    assert np.unique(learned.rates).size > 100
    assert learned.evaluate(SINE, episodes=100).mean < 0.9 * fixed.evaluate(SINE, episodes=100).mean


def test_rates_of_another_shape():
    with pytest.raises(ValueError, match=r"inner_lr of shape \(6,\) must be a number or \(481,\)"):
        fm.MetaSGD(NET, np.full(6, 0.1))
