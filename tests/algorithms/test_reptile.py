from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.algorithms.reptile import mini_batches
from tests.algorithms.learners import Fixed
from tests.gradcheck import relative

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "reference"
NET = fm.MLP((1, 8, 1), activation="tanh")
SINE = fm.tasks.Sinusoid(shots=5, queries=5)


@pytest.mark.skipif(not FOLDER.exists(), reason="shared/reference is not beside this repository")
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_one_update_of_the_reference(device):
    data = np.load(FOLDER / "reptile.npz")

    def flat(name, lead=0):
        parts = [data[f"{name}{i}"].astype(float) for i in range(6)]
        return np.concatenate([part.reshape(*part.shape[:lead], -1) for part in parts], axis=-1)

    x, y = data["xs"].astype(float), data["ys"].astype(float)
    learner = fm.Reptile(fm.MLP((1, 40, 40, 1)), 0.02, 8, None, "sgd", device=device)
    learner.fit(Fixed(fm.Batch(x, y, x, y)), 0, theta=flat("p"))
    assert relative(learner.adapt(x, y).theta, flat("adapted_p", lead=1)) <= 1e-12
    learner.fit(Fixed(fm.Batch(x, y, x, y)), 1, optimizer=fm.SGD(0.1), theta=flat("p"))
    assert relative(learner.theta, flat("new_p")) <= 1e-12


def test_serial_adam_by_hand():
    """One task an update: the second moment goes from task to task, and into evaluation."""
    theta, tasks = NET.init(0, "float64"), fm.tasks.Sinusoid(shots=4, queries=2)
    learner = fm.Reptile(NET, 0.01, 3, inner_batch=None, device="numpy")
    learner.fit(tasks, 3, tasks_per_step=1, optimizer=fm.SGD(0.5), theta=theta)
    second, count = np.zeros_like(theta), 0

    def inner(phi, batch, steps):
        nonlocal second, count
        for _ in range(steps):
            count += 1
            slope = fm.gradient(NET, phi, batch.x_support[0], batch.y_support[0], device="numpy")[1]
            second = 0.999 * second + 0.001 * slope**2
            phi = phi - 0.01 * slope / (np.sqrt(second / (1 - 0.999**count)) + 1e-8)
        return phi

    for step in range(3):
        theta = theta + 0.5 * (inner(theta, tasks.sample(1, 0, step), 3) - theta)
    assert relative(learner.theta, theta) <= 1e-10
    curve = tasks.sample(1, seed=9)
    phi = learner.adapt(curve.x_support[0], curve.y_support[0], inner_steps=5).theta
    assert relative(phi, inner(theta, curve, 5)) <= 1e-10


def test_batched_is_the_mean_of_the_tasks():
    batch = SINE.sample(3, seed=1)
    theta = NET.init(0, "float64")
    learner = fm.Reptile(NET, 0.02, 4, inner_batch=None, inner_optimizer="sgd", device="numpy")
    loss, slopes = learner.fit(Fixed(batch), 0, theta=theta).meta_gradients(batch)
    phi = fm.adapt(NET, theta, batch.x_support, batch.y_support, 0.02, 4, device="numpy")
    assert relative(slopes["theta"], theta - phi.mean(axis=0)) <= 1e-12
    assert loss == pytest.approx(fm.loss(NET, phi, batch.x_query, batch.y_query, device="numpy").mean(), rel=1e-12)
    assert slopes.keys() == {"theta"}


def test_adams_second_moment_is_the_mean_over_the_tasks():
    batch, theta = SINE.sample(3, seed=1), NET.init(0, "float64")
    learner = fm.Reptile(NET, 0.02, 4, inner_batch=None, device="numpy").fit(Fixed(batch), 1, theta=theta)
    slopes = learner.meta_gradients(batch)[1]
    parts = batch.x_support, batch.y_support, batch.x_query, batch.y_query
    alone = [learner.meta_gradients(fm.Batch(*(part[t : t + 1] for part in parts)))[1] for t in range(3)]
    assert slopes.keys() == {"theta", "second_moment"}
    for name, slope in slopes.items():
        assert relative(slope, np.mean([one[name] for one in alone], axis=0)) <= 1e-11
        assert relative(slope, alone[0][name]) > 1e-2


def test_outer_steps_go_from_one_to_nothing():
    learner = fm.Reptile(NET, device="numpy").fit(SINE, 10)
    assert learner.default_optimizer(10) == fm.SGD(fm.LinearSchedule(1.0, 0.0, 10))
    first = fm.Reptile(NET, device="numpy").fit(SINE, 1)
    slopes = fm.Reptile(NET, device="numpy").fit(SINE, 0).meta_gradients(SINE.sample(25, 0, 0))[1]
    np.testing.assert_allclose(first.theta, NET.init(0) - slopes["theta"], rtol=1e-6, atol=1e-7)


def test_mini_batches_walk_through_all_samples():
    rows = mini_batches(np.random.default_rng(0), tasks=4, samples=10, size=4, steps=6)
    assert rows.shape == (4, 6, 4)
    flat = rows.reshape(4, -1)
    for task in flat:
        for start in (0, 10):
            assert sorted(task[start : start + 10]) == list(range(10))
    assert (flat[0] != flat[1]).any()
    assert (flat[0, :10] != flat[0, 10:20]).any()


def test_mini_batches_of_training_differ_by_step_and_seed():
    """With one sample a step the order of the samples shows in the result."""

    def slopes(seed, iterations):
        learner = fm.Reptile(NET, 0.05, 3, inner_batch=1, inner_optimizer="sgd", device="numpy")
        learner.fit(SINE, iterations, seed=seed, optimizer=fm.SGD(1e-30), theta=NET.init(0))
        return learner.meta_gradients(SINE.sample(2, seed=7))[1]["theta"]

    one = slopes(0, 0)
    np.testing.assert_array_equal(one, slopes(0, 0))
    assert (one != slopes(1, 0)).any()
    assert (one != slopes(0, 1)).any()


def test_weights_of_samples_reach_the_inner_steps():
    batch = SINE.sample(1, seed=5)
    x, y = batch.x_support[0], batch.y_support[0]
    weights = np.array([1, 1, 0, 0, 0]) * 5 / 2
    learner = fm.Reptile(NET, 0.05, 3, None, "sgd", device="numpy").fit(SINE, 0)
    some, masked = learner.adapt(x[:2], y[:2]), learner.adapt(x, y, weights=weights)
    np.testing.assert_allclose(masked.theta, some.theta, rtol=1e-5, atol=1e-6)
    walking = fm.Reptile(NET, 0.05, 5, 1, "sgd", device="numpy").fit(SINE, 0)
    np.testing.assert_array_equal(walking.adapt(x, y, weights=np.zeros(5)).theta, walking.theta)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"inner_lr": [0.1]}, TypeError, r"inner_lr=\[0\.1\] must be a number"),
        ({"inner_lr": 0}, ValueError, "inner_lr=0 must be positive"),
        ({"inner_batch": 0}, ValueError, "inner_batch=0 must be at least 1"),
        ({"inner_optimizer": "adm"}, ValueError, 'Did you mean "adam"'),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        fm.Reptile(NET, **arguments)
