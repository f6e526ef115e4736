from __future__ import annotations

import numpy as np
import pytest

import fastmeta as fm

SINE = fm.tasks.Sinusoid(shots=10, queries=10)
NET = fm.MLP((1, 20, 20, 1), activation="tanh")


@pytest.mark.parametrize("device", ["numpy", "cpu"])
@pytest.mark.parametrize("algorithm", [fm.MAML, fm.FOMAML])
def test_learns_sine_curves(algorithm, device):
    learner = algorithm(fm.MLP((1, 40, 40, 1)), inner_lr=0.01, inner_steps=1, device=device)
    before = learner.fit(SINE, 0).evaluate(SINE, episodes=100, inner_steps=5).mean
    learner.fit(SINE, 400, optimizer=fm.Adam(5e-3))
    scores = learner.evaluate(SINE, episodes=100, inner_steps=(0, 5))
    assert scores[5].mean < 0.4 * before
    assert scores[5].mean < 0.6 * scores[0].mean  # it is the adaptation that helps


@pytest.mark.parametrize(("algorithm", "order"), [(fm.MAML, 2), (fm.FOMAML, 1)])
@pytest.mark.parametrize("inner_lr", [0.02, np.full(6, 0.02), np.full((2, 1), 0.02)])
def test_meta_gradients_are_those_of_the_functional_layer(algorithm, order, inner_lr):
    learner = algorithm(NET, inner_lr, inner_steps=2, learn_inner_lr=True, device="numpy")
    learner.fit(SINE, 0, theta=NET.init(0, "float64"))
    batch = SINE.sample(4, seed=2)
    loss, slopes = learner.meta_gradients(batch)
    wanted = fm.meta_gradient(NET, learner.theta, batch, inner_lr, 2, order, device="numpy")
    assert loss == pytest.approx(wanted.loss, rel=1e-14)
    np.testing.assert_allclose(slopes["theta"], wanted.gradient, rtol=1e-12)
    np.testing.assert_allclose(slopes["inner_lr"], np.atleast_1d(wanted.inner_lr_gradient), rtol=1e-12)


def test_first_order_is_another_direction():
    batch = SINE.sample(4, seed=2)
    exact, first = (a(NET, 0.1, 3, device="numpy").fit(SINE, 0).meta_gradients(batch) for a in (fm.MAML, fm.FOMAML))
    assert exact[0] == first[0]
    assert np.abs(exact[1]["theta"] - first[1]["theta"]).max() > 1e-3


@pytest.mark.parametrize("inner_lr", [0.01, np.full((2, 6), 0.01)])
def test_learned_rates_move_and_lower_the_loss(inner_lr):
    fixed, learned = (
        fm.MAML(NET, inner_lr, inner_steps=2, learn_inner_lr=learn, device="numpy") for learn in (False, True)
    )
    for learner in (fixed, learned):
        learner.fit(SINE, 150, tasks_per_step=10, optimizer=fm.Adam(3e-3))
    assert set(fixed.parameters) == {"theta"}
    assert learned.rates.shape == np.atleast_1d(inner_lr).shape
    assert learned.rates.dtype == np.float32
    assert (learned.rates != np.float32(0.01)).all()
    assert learned.evaluate(SINE, episodes=100).mean < fixed.evaluate(SINE, episodes=100).mean


def test_learned_rates_are_saved(tmp_path):
    learner = fm.MAML(NET, 0.01, learn_inner_lr=True, device="numpy").fit(SINE, 3)
    learner.save(tmp_path / "maml.safetensors")
    loaded = fm.load(tmp_path / "maml.safetensors", device="numpy")
    assert isinstance(loaded, fm.MAML)
    assert loaded.inner_lr == 0.01
    np.testing.assert_array_equal(loaded.rates, learner.rates)
    assert str(loaded).endswith("inner_lr=0.01, inner_steps=1, learn_inner_lr=True)")


def test_a_slope_for_every_parameter_or_an_error():
    class Forgetful(fm.MAML):
        def meta_gradients(self, batch):
            loss, slopes = super().meta_gradients(batch)
            return loss, {"theta": slopes["theta"]}

    learner = Forgetful(fm.MLP((1, 4, 1)), learn_inner_lr=True, device="numpy")
    with pytest.raises(ValueError, match=r"inner_lr is in one of them only. Return a slope for each"):
        learner.fit(fm.tasks.Sinusoid(), iterations=1)
