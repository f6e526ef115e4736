"""Losses as descriptions: what they mean by default, which targets they refuse, and how a learner keeps its own."""

from __future__ import annotations

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.networks import losses

NET = fm.MLP((2, 8, 3), activation="tanh")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 6, 2))
LABELS = RNG.integers(3, size=(4, 6))
TARGETS = RNG.normal(size=(4, 6, 3))
TASKS = fm.tasks.Sinusoid(shots=5, queries=5)
DEFAULTS = {"squared error": (fm.SquaredError(), TARGETS), "cross-entropy": (fm.CrossEntropy(), LABELS)}


def same(a: object, b: object) -> bool:
    return np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_loss_that_is_named_is_the_one_that_targets_mean(name):
    loss, y = DEFAULTS[name]
    theta, v = NET.init(0, "float64"), NET.init(1, "float64")
    assert losses.of(None, y) == loss
    for function, arguments in (
        (fm.loss, (theta, X, y)),
        (fm.hvp, (theta, v, X, y)),
        (fm.adapt, (theta, X, y)),
    ):
        values = [function(NET, *arguments, loss=given, device="numpy") for given in (None, loss)]
        assert same(*values), function.__name__
    batch = fm.Batch(X, y, X, y)
    found = [fm.meta_gradient(NET, theta, batch, device="numpy", loss=given).gradient for given in (None, loss)]
    assert same(*found)
    assert fm.check_meta_gradient(NET, theta, batch, device="numpy", loss=loss).worst.error < 1e-7


@pytest.mark.parametrize(
    ("loss", "y", "error", "message"),
    [
        (fm.SquaredError(), LABELS, TypeError, r"y of dtype int64 must be floats for the loss SquaredError\(\)"),
        (fm.CrossEntropy(), TARGETS, TypeError, r"y of dtype float64 must be integer labels for the loss CrossEntr"),
        (fm.CrossEntropy(), LABELS + 1, ValueError, r"labels must be 0 .. ways-1; got 3 with a network of 3 outputs"),
        (fm.CrossEntropy(), LABELS[:, :4], ValueError, r"must hold one label a sample: \(4, 6\)"),
        (
            fm.SquaredError(),
            TARGETS[..., :2],
            ValueError,
            r"must be \(4, 6, 3\) for MLP.* takes a target for each outp",
        ),
        (None, LABELS * 1j, TypeError, "must be integer labels or float targets"),
        ("mse", TARGETS, TypeError, r"loss=\'mse\' must be fm.SquaredError\(\), .* or None\. A function .*how to add"),
    ],
)
def test_targets_that_a_loss_does_not_take(loss, y, error, message):
    with pytest.raises(error, match=message):
        fm.loss(NET, NET.init(0), X, y, loss=loss, device="numpy")


@pytest.mark.parametrize("kind", [fm.MAML, fm.MetaSGD, fm.Reptile, fm.iMAML, fm.MAMLPlusPlus])
def test_a_learner_keeps_its_loss_in_its_checkpoint(kind, tmp_path):
    net = fm.MLP((1, 4, 1))
    plain, named = (
        kind(net, 0.01, 1, device="numpy", loss=loss).fit(TASKS, 2, 2) for loss in (None, fm.SquaredError())
    )
    assert same(plain.theta, named.theta)
    assert "loss" not in repr(plain)
    assert "loss=SquaredError()" in repr(named)
    for learner in (plain, named):
        learner.save(tmp_path / "learner.safetensors")
        loaded = fm.load(tmp_path / "learner.safetensors", device="numpy")
        assert loaded.loss == learner.loss
        assert loaded.evaluate(TASKS, 4).measure == "mse"


def test_a_learner_refuses_tasks_of_other_targets():
    labelled = fm.tasks.from_arrays(RNG.random((40, 1)), np.repeat(np.arange(4), 10), ways=2, shots=2, queries=3)
    maml = fm.MAML(fm.MLP((1, 4, 2)), device="numpy", loss=fm.SquaredError())
    with pytest.raises(TypeError, match="must be floats for the loss"):
        maml.fit(labelled, 1)


@pytest.mark.parametrize("loss", [fm.SquaredError(), fm.CrossEntropy(), fm.Huber(0.5)], ids=str)
def test_a_loss_is_read_back_from_what_was_written(loss):
    assert losses.from_dict(loss.to_dict()) == loss
    with pytest.raises(ValueError, match='Did you mean "SquaredError"'):
        losses.from_dict({"loss": "SquareError"})


HUBER = fm.Huber(0.7)


def test_huber_is_its_equation():
    gaps = NET.predict(NET.init(0, "float64"), X, "numpy") - TARGETS
    assert 0.2 < (np.abs(gaps) <= HUBER.delta).mean() < 0.8
    near, far = np.square(gaps) / 2, HUBER.delta * (np.abs(gaps) - HUBER.delta / 2)
    wanted = np.where(np.abs(gaps) <= HUBER.delta, near, far).mean(axis=(1, 2))
    np.testing.assert_allclose(fm.loss(NET, NET.init(0, "float64"), X, TARGETS, loss=HUBER, device="numpy"), wanted)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("order", [1, 2])
def test_the_meta_gradient_of_huber_agrees_with_central_differences(order, steps):
    batch = fm.Batch(X[:2], TARGETS[:2], X[2:], TARGETS[2:], *RNG.uniform(0.5, 2, (2, 2, 6)))
    report = fm.check_meta_gradient(NET, NET.init(0, "float64"), batch, 0.3, steps, order, device="numpy", loss=HUBER)
    assert report.worst.error < 1e-7
    assert report.kinks > 0
    assert sum(block.directions for block in report.blocks) > 10


def test_the_product_with_the_hessian_of_huber_is_the_slope_of_its_gradient():
    theta, v = NET.init(0, "float64"), RNG.standard_normal(NET.parameter_count)
    width = 1e-6
    ends = [fm.gradient(NET, theta + e * v, X, TARGETS, loss=HUBER, device="numpy")[1] for e in (width, -width)]
    product = fm.hvp(NET, theta, v, X, TARGETS, loss=HUBER, device="numpy")
    np.testing.assert_allclose((ends[0] - ends[1]) / (2 * width), product, rtol=1e-6, atol=1e-8)


def test_huber_resists_a_target_far_away_and_is_half_the_squared_error_near(tmp_path):
    theta = NET.init(0, "float64")
    wide = fm.Huber(1e6)
    halves = [fm.gradient(NET, theta, X, TARGETS, loss=loss, device="numpy")[1] for loss in (wide, fm.SquaredError())]
    np.testing.assert_allclose(2 * halves[0], halves[1], rtol=1e-13)
    far = TARGETS.copy()
    far[0, 0, 0] = 1e9
    assert np.abs(fm.gradient(NET, theta, X, far, loss=HUBER, device="numpy")[1]).max() < 10
    maml = fm.MAML(fm.MLP((1, 8, 1)), 0.01, device="numpy", loss=HUBER).fit(TASKS, 2, 2)
    maml.save(tmp_path / "huber.safetensors")
    loaded = fm.load(tmp_path / "huber.safetensors", "numpy")
    assert loaded.loss == HUBER
    assert loaded.evaluate(TASKS, 3).measure == "mse"
    assert "loss=Huber(delta=0.7)" in repr(loaded)


@pytest.mark.parametrize(
    ("delta", "error"), [(0, ValueError), (-1.0, ValueError), (np.inf, ValueError), ("1", TypeError)]
)
def test_a_delta_that_makes_no_sense(delta, error):
    with pytest.raises(error, match="delta="):
        fm.Huber(delta)
