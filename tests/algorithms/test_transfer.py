"""Transfer learning: pretraining through the engine's gradient, heads on its features, resume to the same bits."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import fastmeta as fm
from tests.gradcheck import derivative, relative

CLASSES, FEATURES = 24, 6
NORMED = fm.Network([fm.Linear(24), fm.BatchNorm(), fm.Tanh(), fm.Linear(CLASSES)], 2 * FEATURES)


def clusters(classes: int = CLASSES, seed: int = 0, **sizes: int) -> Any:
    """Classes that differ in half of the features; the other half is noise of ten times the size."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((classes, FEATURES))
    x = np.repeat(centres, 20, axis=0) + 0.2 * rng.standard_normal((20 * classes, FEATURES))
    x = np.concatenate([x, 2 * rng.standard_normal(x.shape)], axis=1)
    return fm.tasks.from_arrays(
        x, 3 * np.repeat(np.arange(classes), 20), **{"ways": 5, "shots": 1, "queries": 5} | sizes
    )


def transfer(net: fm.Network = NORMED, **arguments: Any) -> fm.Transfer:
    return fm.Transfer(net, **{"device": "numpy"} | arguments)


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_the_gradient_is_that_of_the_mean_loss(device):
    learner = transfer(batch_size=8, device=device)
    theta = NORMED.init(3, "float64")
    learner.fit(clusters(), 0, tasks_per_step=3, theta=theta)
    x, y = np.random.default_rng(0).normal(size=(3, 8, 12)), np.random.default_rng(1).integers(0, CLASSES, (3, 8))
    batch = fm.Batch(x, y, x, y)
    loss, slopes = learner.meta_gradients(batch)
    assert loss == pytest.approx(fm.loss(NORMED, theta, x, y, device="numpy").mean(), rel=1e-12)
    direction = np.random.default_rng(2).normal(size=theta.size)
    slope = derivative(lambda e: fm.loss(NORMED, theta + e * direction, x, y, device=device).mean(), 0.01)
    assert relative(slopes["theta"] @ direction, slope) < 1e-7
    assert not slopes["statistics"].any()


@pytest.mark.parametrize("head", ["linear", "cosine", "centroid"])
@pytest.mark.parametrize("inductive", [True, False])
def test_features_learned_on_some_classes_serve_others(head, inductive):
    learner = transfer(head=head, inductive=inductive).fit(clusters(), 400, optimizer=fm.Adam(1e-2))
    new = clusters(20, seed=1)
    score = learner.evaluate(new, episodes=100)
    assert score.batch_norm == ("inductive" if inductive else "transductive")
    raw = transfer(head=head).fit(clusters(), 0).evaluate(new, episodes=100)
    assert fm.compare(score, raw).mean > 0.2  # of the five classes, untrained features find 44 %, trained ones 80 %
    more = learner.evaluate(replace(new, ways=10, shots=5), episodes=50)
    assert more.mean > 0.7


def test_the_first_batch_is_drawn_from_all_classes_and_the_seed_decides():
    from fastmeta.algorithms.transfer.minibatches import Minibatches

    tasks = clusters()
    batches = Minibatches(tasks, 1000)
    batch = batches.sample(2, seed=1)
    assert set(batch.y_query.ravel()) == set(range(CLASSES))
    np.testing.assert_array_equal(batch.x_query, batches.sample(2, seed=1).x_query)
    assert (batch.x_query != batches.sample(2, seed=1, step=1).x_query).any()
    known = {row.tobytes(): label for row, label in zip(tasks.x, tasks.y, strict=True)}
    for row, label in zip(batch.x_query[0], batch.y_query[0], strict=True):
        assert known[row.tobytes()] == 3 * label


def assert_same_bits(a: fm.Transfer, b: Any) -> None:
    assert a.parameters.keys() == b.parameters.keys()
    for name, values in a.parameters.items():
        assert values.tobytes() == b.parameters[name].tobytes(), name
    assert a.history["loss"].tobytes() == b.history["loss"].tobytes()


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_resume_gives_the_bits_of_an_uninterrupted_run(tmp_path, device):
    tasks, path = clusters(), tmp_path / "run.safetensors"
    whole = transfer(device=device).fit(tasks, 9, tasks_per_step=2)
    transfer(device=device).fit(tasks, 4, tasks_per_step=2, checkpoint=path)
    resumed = transfer(device=device).fit(tasks, 9, tasks_per_step=2, checkpoint=path, resume=True)
    assert whole.parameters["statistics"].any()
    assert_same_bits(whole, resumed)
    assert_same_bits(whole, fm.load(path))
    score, again = (m.evaluate(tasks, episodes=10) for m in (whole, fm.load(path, device)))
    np.testing.assert_array_equal(score.values, again.values)


def test_an_interrupted_run_has_no_statistics_of_earlier_parameters(tmp_path):
    path = tmp_path / "run.safetensors"
    transfer().fit(clusters(), 3, checkpoint=path)

    def stop(iteration: int, loss: float) -> None:
        if iteration == 5:
            raise KeyboardInterrupt

    learner = transfer()
    with pytest.raises(KeyboardInterrupt):
        learner.fit(clusters(), 9, checkpoint=path, resume=True, callback=stop)
    with pytest.raises(RuntimeError, match=r"no batch-norm statistics yet\. Let fit"):
        fm.load(path, "numpy").evaluate(clusters(), 2)
    resumed = transfer().fit(clusters(), 9, checkpoint=path, resume=True)
    assert_same_bits(transfer().fit(clusters(), 9), resumed)


def test_inductive_predictions_do_not_depend_on_the_other_queries():
    tasks = clusters(shots=2)
    batch = tasks.sample(3, seed=5)
    for inductive in (True, False):
        learner = transfer(inductive=inductive).fit(tasks, 20)
        model = learner.adapt(batch.x_support[0], batch.y_support[0])
        whole = model.outputs(batch.x_query[0])
        with nullcontext() if inductive else pytest.warns(UserWarning, match="Batch norm is transductive"):
            alone = model.outputs(batch.x_query[0][:2])
        assert np.allclose(whole[:2], alone, atol=1e-5) == inductive
        several = learner.adapt(batch.x_support, batch.y_support)
        np.testing.assert_allclose(several.outputs(batch.x_query)[0], whole, atol=1e-4)
        np.testing.assert_allclose(model.probabilities(batch.x_query[0]).sum(axis=1), 1, rtol=1e-5)
        assert model.predict(batch.x_query[0]).shape == batch.y_query[0].shape


def test_weights_of_zero_leave_samples_out():
    tasks = clusters(shots=3)
    batch = tasks.sample(1, seed=5)
    x, y = batch.x_support[0], batch.y_support[0]
    weights = np.tile([1.0, 1.0, 0.0], 5)
    for head in ("linear", "cosine", "centroid"):
        learner = transfer(head=head).fit(tasks, 5)
        some, masked = learner.adapt(x[weights > 0], y[weights > 0]), learner.adapt(x, y, weights)
        np.testing.assert_allclose(some.outputs(x), masked.outputs(x), atol=1e-4)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: transfer(head="liner"), ValueError, 'head="liner" must be one of .* Did you mean "linear"'),
        (lambda: transfer(batch_size=0), ValueError, "batch_size=0 must be at least 1"),
        (
            lambda: transfer(fm.MLP((12, CLASSES))),
            ValueError,
            "must end with a Linear layer and have parameters before",
        ),
        (lambda: transfer(fm.Conv4(outputs=None)), ValueError, "must end with a Linear layer"),
        (
            lambda: transfer(fm.Network([fm.Linear(3), fm.Tanh(), fm.BatchNorm(), fm.Linear(2)], 2)),
            ValueError,
            "inductive=True must have each BatchNorm right behind",
        ),
        (lambda: transfer().fit(fm.tasks.Sinusoid(), 1), TypeError, "must be labelled samples, such as"),
        (lambda: transfer().fit(clusters(7), 1), ValueError, "net has 24 outputs but tasks have 7 classes"),
        (
            lambda: transfer().fit(clusters(), 1).adapt(np.ones((2, 12)), [0, 2]),
            ValueError,
            r"each label 0 \.\. ways-1",
        ),
        (
            lambda: transfer().fit(clusters(), 1).adapt(np.ones((2, 12)), [0, 10**12]),
            ValueError,
            r"each label 0 \.\. ways-1",
        ),
        (lambda: transfer().fit(clusters(), 1).adapt(np.ones((2, 12)), [0.5, 1.5]), ValueError, "one whole number a"),
        (
            lambda: transfer().fit(clusters(), 1).adapt(np.ones((2, 12)), [0, 1], [1.0, -1.0]),
            ValueError,
            r"weights of shape \(2,\) must be finite numbers of at least 0",
        ),
        (
            lambda: transfer().fit(clusters(), 1).adapt(np.ones((3, 2, 12)), [[0, 1]] * 3).predict(np.ones((4, 12))),
            ValueError,
            "x has 1 tasks but the model was adapted to 3",
        ),
        (lambda: transfer().evaluate(clusters()), RuntimeError, "Transfer has learned nothing yet"),
    ],
)
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("head", ["linear", "cosine", "centroid"])
@pytest.mark.parametrize("value", [0.0, 0.5])
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_features_that_are_all_alike_score_by_chance(head: str, value: float, device: str, tmp_path) -> None:
    """Variances of 0 are statistics like any others."""
    tasks = fm.tasks.from_arrays(np.full((60, 16, 16, 1), value), np.arange(60) % 6, ways=3, shots=1, queries=2)
    net = fm.Conv4((16, 16, 1), channels=2, outputs=6)
    path = tmp_path / "transfer.safetensors"
    learner = fm.Transfer(net, head, device=device).fit(tasks, 2, checkpoint=path)
    assert learner.parameters["statistics"][1].any() == (value > 0)  # the border of a convolution is another shade
    for one in (learner, fm.load(path, device=device), fm.Transfer(net, head, device=device)):
        one.fit(tasks, 2, checkpoint=path, resume=True)
        np.testing.assert_allclose(one.evaluate(tasks, 4).values, 1 / 3)


def test_constant_features_of_a_perceptron() -> None:
    net = fm.Network([fm.Linear(5), fm.BatchNorm(), fm.ReLU(), fm.Linear(4)], 3)
    tasks = fm.tasks.from_arrays(np.ones((40, 3)), np.arange(40) % 4, ways=2, shots=1, queries=2)
    score = fm.Transfer(net, device="numpy").fit(tasks, 3).evaluate(tasks, 5)
    np.testing.assert_array_equal(score.values, 0.5)
    with pytest.raises(RuntimeError, match="no batch-norm statistics yet"):
        fm.Learner.fit(
            fm.Transfer(net, device="numpy"), fm.algorithms.transfer.transfer.Minibatches(tasks, 4), 1
        ).adapt(np.ones((2, 3)), [0, 1])
