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


def classified(**arguments):
    """An ANIL of three classes that has learned them for a moment, and its tasks."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(8), 12)
    x = rng.normal(size=(8, 4))[labels] + rng.normal(size=(96, 4))
    seen = labels < 4
    tasks, new = (fm.tasks.from_arrays(x[part], labels[part], ways=3, shots=2, queries=3) for part in (seen, ~seen))
    learner = fm.ANIL(fm.MLP((4, 6, 3)), 0.3, 3, device="numpy", **arguments)
    return learner.fit(tasks, 6, validation=new, validate_every=3), new


@pytest.mark.parametrize("learned", [False, True])
def test_with_a_shared_head_no_class_is_told_from_another_by_its_number(learned, tmp_path):
    learner, tasks = classified(learn_inner_lr=learned)
    before, first = learner.parameters, learner.net.head[0]
    history = learner.history["loss"].tolist()
    assert np.ptp(fm.lab.permutations(learner, tasks, 20).accuracy, axis=1).max() > 0
    assert learner.share_head() is learner
    weight, bias = list(learner.net.views(learner.theta).values())[-2:]
    own, _ = list(learner.net.views(before["theta"]).values())[-2:]
    np.testing.assert_allclose(weight, np.repeat(own.mean(axis=1, keepdims=True), 3, axis=1), rtol=1e-6)
    assert len(set(bias.tolist())) == 1
    np.testing.assert_array_equal(learner.theta[:first], before["theta"][:first])
    assert own.std(axis=1).min() > 0  # what was learned before is left alone
    assert learner.history["loss"].tolist() == history
    assert np.ptp(fm.lab.permutations(learner, tasks, 20).accuracy, axis=1).max() == 0
    learner.save(tmp_path / "shared.safetensors")
    again = fm.load(tmp_path / "shared.safetensors", device="numpy")
    np.testing.assert_array_equal(again.theta, learner.theta)
    assert again.best is not None
    shared = learner.parameters
    assert learner.share_head().parameters.keys() == shared.keys()
    for name, values in shared.items():
        np.testing.assert_array_equal(learner.parameters[name], values)


def test_rates_of_each_parameter_are_shared_too():
    count = fm.MLP((4, 6, 3)).parameter_count
    learner, tasks = classified(learn_inner_lr=False)
    learner = fm.ANIL(learner.net, np.full(count, 0.3), 3, learn_inner_lr=True, device="numpy").fit(tasks, 6)
    learner.share_head()
    for values in learner.parameters.values():
        assert np.ptp(learner.net.views(values)["linear2.weight"], axis=1).max() == 0
    assert np.ptp(fm.lab.permutations(learner, tasks, 20).accuracy, axis=1).max() == 0


def test_a_head_without_classes_is_not_shared():
    with pytest.raises(ValueError, match=r"loss=None must classify to share its head: leave it as it is\."):
        fm.ANIL(NET, device="numpy").fit(SINE, 0).share_head()
    with pytest.raises(ValueError, match="must classify to share its head"):
        fm.ANIL(fm.MLP((1, 4, 2)), loss=fm.SquaredError()).share_head()
    with pytest.raises(RuntimeError, match="has learned nothing yet"):
        fm.ANIL(fm.MLP((1, 4, 2))).share_head()
