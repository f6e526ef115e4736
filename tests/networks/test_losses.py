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
        ("mse", TARGETS, TypeError, r"loss=\'mse\' must be a loss, such as fm.SquaredError\(\), or None"),
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


@pytest.mark.parametrize("loss", [fm.SquaredError(), fm.CrossEntropy()], ids=str)
def test_a_loss_is_read_back_from_what_was_written(loss):
    assert losses.from_dict(loss.to_dict()) == loss
    with pytest.raises(ValueError, match='Did you mean "SquaredError"'):
        losses.from_dict({"loss": "SquareError"})
