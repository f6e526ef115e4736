from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

import fastmeta as fm
from tests.algorithms.learners import Fixed, meta_gradient_errors
from tests.gradients.test_gradients import EVERYDAY, cases

NET = fm.MLP((1, 8, 8, 1), activation="tanh")
SINE = fm.tasks.Sinusoid(shots=5, queries=5)


@pytest.mark.parametrize("algorithm", [fm.ANIL, fm.BOIL])
@EVERYDAY
@given(drawn=cases())
def test_meta_gradients_against_central_differences(algorithm, drawn):
    case, seed, weighted, rates, steps, _ = drawn
    net = case.network
    if net.head[0] == 0 and algorithm is fm.BOIL:
        return
    theta, batch = case.make(seed=seed, weighted=weighted)
    learner = algorithm(net, rates if steps else 0.05, max(steps, 1), learn_inner_lr=True, device="numpy")
    learner.fit(Fixed(batch), 0, theta=theta)
    assert max(meta_gradient_errors(learner, batch, seed).values()) <= 1e-7


@pytest.mark.parametrize(("algorithm", "moves"), [(fm.ANIL, {"linear3"}), (fm.BOIL, {"linear1", "linear2"})])
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_what_moves(algorithm, moves, device):
    learner = algorithm(NET, 0.1, 2, device=device).fit(SINE, 1)
    batch = SINE.sample(2, seed=3)
    phi = learner.adapt(batch.x_support, batch.y_support).theta
    moved = {name.split(".")[0] for name, part in NET.views(phi - learner.theta).items() if part.any()}
    assert moved == moves


def test_a_head_that_is_not_there():
    net = fm.Network([fm.Linear(4), fm.Tanh(), fm.Linear(3), fm.BatchNorm()], 2)
    for algorithm in (fm.ANIL, fm.BOIL):
        with pytest.raises(ValueError, match="needs a network whose last layer with parameters is Linear"):
            algorithm(net)
    with pytest.raises(ValueError, match='adapt="body" needs a network with parameters before the last'):
        fm.BOIL(fm.MLP((3, 2)))
    with pytest.raises(ValueError, match='adapt="body" needs'):
        fm.adapt(fm.MLP((3, 2)), np.zeros(8), np.ones((4, 3)), np.zeros(4, int), adapt="body", device="numpy")
