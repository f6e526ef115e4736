from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.learning.adapted_model import AdaptedModel
from fastmeta.learning.gradient_learner import GradientLearner
from fastmeta.learning.learner import Learner

ROOT = Path(__file__).resolve().parents[2]
SINE = fm.tasks.Sinusoid(shots=5, queries=5)
NET = fm.MLP((1, 8, 1), activation="tanh")


def maml(**arguments: Any) -> fm.MAML:
    return fm.MAML(NET, **{"inner_lr": 0.05, "device": "numpy"} | arguments)


def clusters(ways: int = 3) -> Any:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((12, 6))
    x = np.repeat(centres, 20, axis=0) + 0.1 * rng.standard_normal((240, 6))
    return fm.tasks.from_arrays(x.astype(np.float32), np.repeat(np.arange(12), 20), ways, shots=2, queries=4)


def assert_same_bits(a: Learner, b: Learner) -> None:
    assert a.training.step == b.training.step
    assert a.parameters.keys() == b.parameters.keys()
    for name, values in a.parameters.items():
        assert values.tobytes() == b.parameters[name].tobytes()
        for one, two in zip(a.training.moments[name].moments, b.training.moments[name].moments, strict=True):
            assert one.tobytes() == two.tobytes()
    assert a.history["loss"].tobytes() == b.history["loss"].tobytes()


class Interrupted:
    """Tasks whose sample number `at` raises."""

    def __init__(self, at: int, error: BaseException) -> None:
        self.at, self.error = at, error

    def sample(self, tasks: int, seed: int, step: int = 0) -> fm.Batch:
        if step == self.at:
            raise self.error
        return SINE.sample(tasks, seed, step)


class TwoOutputs:
    """Targets of another size than the network's."""

    def sample(self, tasks: int, seed: int, step: int = 0) -> fm.Batch:
        b = SINE.sample(tasks, seed, step)
        y_support, y_query = (np.repeat(y, 2, axis=2) for y in (b.y_support, b.y_query))
        return fm.Batch(b.x_support, y_support, b.x_query, y_query)


# training


def test_training_is_deterministic():
    one, two = (maml().fit(SINE, 5, tasks_per_step=3, seed=7) for _ in range(2))
    assert_same_bits(one, two)
    assert (one.theta != maml().fit(SINE, 5, tasks_per_step=3, seed=8).theta).any()


def test_iterations_see_the_seeded_batches_and_adam_by_default():
    calls = []

    class Recorder:
        def sample(self, tasks: int, seed: int, step: int = 0) -> fm.Batch:
            calls.append((tasks, seed, step))
            return SINE.sample(tasks, seed, step)

    learner = maml().fit(Recorder(), 3, tasks_per_step=4, seed=9)
    assert calls == [(4, 9, 0), (4, 9, 1), (4, 9, 2)]
    theta = NET.init(9)
    state = fm.Adam(1e-3).init(theta)
    for step in range(3):
        result = fm.meta_gradient(NET, theta, SINE.sample(4, 9, step), inner_lr=0.05, device="numpy")
        theta, state = fm.Adam(1e-3).update(theta, result.gradient, state)
    np.testing.assert_array_equal(learner.theta, theta)


def test_first_parameters_can_be_given_and_decide_the_dtype():
    theta = NET.init(3, dtype="float64")
    learner = maml().fit(SINE, 2, theta=theta)
    assert learner.theta.dtype == np.float64
    np.testing.assert_array_equal(theta, NET.init(3, dtype="float64"))
    np.testing.assert_array_equal(maml().fit(SINE, 0, theta=theta).theta, theta)


def test_a_second_fit_starts_anew():
    learner = maml().fit(SINE, 4)
    assert_same_bits(learner.fit(SINE, 3), maml().fit(SINE, 3))


def test_callback_and_history():
    seen: list[tuple[int, float]] = []
    learner = maml().fit(SINE, 4, callback=lambda iteration, loss: seen.append((iteration, loss)))
    assert [iteration for iteration, _ in seen] == [1, 2, 3, 4]
    np.testing.assert_array_equal(learner.history["loss"], [loss for _, loss in seen])
    assert learner.history["seconds"].shape == (4,)
    assert (learner.history["seconds"] > 0).all()


def test_the_history_has_the_seconds_of_each_iteration(monkeypatch):
    """A clock that only drawing the tasks moves: by 1 s, 2 s, 4 s; a callback is no part of an iteration."""
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)

    class Slow:
        def sample(self, tasks: int, seed: int, step: int = 0) -> fm.Batch:
            nonlocal now
            now += 2.0**step
            return SINE.sample(tasks, seed, step)

    def pause(iteration: int, loss: float) -> None:
        nonlocal now
        now += 50

    np.testing.assert_array_equal(maml().fit(Slow(), 3, callback=pause).history["seconds"], [1, 2, 4])


def test_callback_may_evaluate_the_learner():
    learner, scores = maml(), []
    learner.fit(SINE, 2, callback=lambda *_: scores.append(learner.evaluate(SINE, episodes=5).mean))
    assert scores[1] == learner.evaluate(SINE, episodes=5).mean != scores[0]


# checkpoints


@pytest.mark.parametrize("device", ["numpy", "cpu"])
@pytest.mark.parametrize("rates", [{}, {"learn_inner_lr": True, "inner_lr": np.full((2, 4), 0.05)}])
def test_resume_gives_the_bits_of_an_uninterrupted_run(tmp_path, device, rates):
    run: dict[str, Any] = {"optimizer": fm.Adam(fm.CosineSchedule(1e-2, 1e-4, 12)), "tasks_per_step": 3}
    whole = maml(device=device, inner_steps=2, **rates).fit(SINE, 12, **run)
    path = tmp_path / "run.safetensors"
    maml(device=device, inner_steps=2, **rates).fit(SINE, 5, checkpoint=path, **run)
    resumed = maml(device=device, inner_steps=2, **rates).fit(SINE, 12, checkpoint=path, resume=True, **run)
    assert_same_bits(whole, resumed)
    assert_same_bits(whole, fm.load(path))


@pytest.mark.parametrize("changed", [{"inner_lr": 0.06}, {"inner_steps": 2}, {"learn_inner_lr": True}], ids=str)
def test_resume_with_other_hyper_parameters_is_refused(tmp_path, changed):
    path = tmp_path / "run.safetensors"
    maml().fit(SINE, 2, checkpoint=path)
    before = path.read_bytes()
    (name,) = changed
    with pytest.raises(ValueError, match=rf"was trained with other settings: {name} was .*, is {changed[name]}\."):
        maml(**changed).fit(SINE, 3, checkpoint=path, resume=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize("changed", [{"seed": 1}, {"tasks_per_step": 4}, {"optimizer": fm.Adam(2e-3)}], ids=str)
def test_resume_with_other_settings_of_fit_is_refused(tmp_path, changed):
    path, settings = tmp_path / "run.safetensors", {"tasks_per_step": 3, "optimizer": fm.Adam(1e-3)}
    maml().fit(SINE, 2, checkpoint=path, **settings)
    with pytest.raises(ValueError, match=f"was trained with other settings: {next(iter(changed))} was"):
        maml().fit(SINE, 3, checkpoint=path, resume=True, **(settings | changed))


def test_resume_of_a_finished_run_changes_nothing(tmp_path):
    path = tmp_path / "run.safetensors"
    whole = maml().fit(SINE, 5, checkpoint=path)
    assert_same_bits(whole, maml().fit(SINE, 5, checkpoint=path, resume=True))
    assert_same_bits(whole, maml().fit(SINE, 3, checkpoint=path, resume=True))


def test_ctrl_c_writes_a_checkpoint_and_goes_on_up(tmp_path):
    path = tmp_path / "run.safetensors"
    with pytest.raises(KeyboardInterrupt):
        maml().fit(Interrupted(7, KeyboardInterrupt()), 12, checkpoint=path, checkpoint_every=5)
    assert fm.load(path).training.step == 7
    assert_same_bits(maml().fit(SINE, 12), maml().fit(SINE, 12, checkpoint=path, resume=True))


def test_checkpoints_are_written_first_in_between_and_last(tmp_path, monkeypatch):
    written: list[int] = []
    learner = maml()
    monkeypatch.setattr(learner, "save", lambda path: written.append(learner.training.step))
    learner.fit(SINE, 11, checkpoint=tmp_path / "run", checkpoint_every=5)
    assert written == [1, 5, 10, 11]
    learner.fit(SINE, 0, checkpoint=tmp_path / "run")
    assert written[4:] == [0]


def test_bad_tasks_leave_no_checkpoint_behind(tmp_path):
    with pytest.raises(ValueError, match="x_support has 6 features"):
        maml().fit(clusters(), 5, checkpoint=tmp_path / "run")
    assert os.listdir(tmp_path) == []


KILLED = """
import os, signal, sys
import fastmeta as fm
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
def callback(iteration, loss):
    if iteration == 9 and {within_write}:
        os.{call} = die
    elif iteration == 9:
        die()
net = fm.MLP((1, 8, 1), activation="tanh")
learner = fm.MAML(net, inner_lr=0.05, device="numpy")
learner.fit(fm.tasks.Sinusoid(5, 5), 12, checkpoint=sys.argv[1], checkpoint_every=2, callback=callback)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
@pytest.mark.parametrize("call", ["", "fsync", "replace"], ids=["between", "in fsync", "before the rename"])
def test_killed_in_the_middle_then_resumed(tmp_path, call):
    path = tmp_path / "run.safetensors"
    program = KILLED.format(within_write=bool(call), call=call or "kill")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])}
    done = subprocess.run([sys.executable, "-c", program, str(path)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert fm.load(path).training.step == 8
    assert_same_bits(maml().fit(SINE, 12), maml().fit(SINE, 12, checkpoint=path, resume=True))


def test_save_and_load(tmp_path):
    learner = fm.FOMAML(NET, inner_lr=0.02, inner_steps=3, device="numpy").fit(SINE, 3)
    learner.save(tmp_path / "sine.safetensors")
    loaded = fm.load(tmp_path / "sine.safetensors", device="numpy")
    assert type(loaded) is fm.FOMAML
    assert repr(loaded) == repr(learner)
    assert_same_bits(learner, loaded)
    score, again = (m.evaluate(SINE, episodes=20) for m in (learner, loaded))
    np.testing.assert_array_equal(score.values, again.values)


# divergence


def test_divergence_names_the_iteration_and_keeps_the_last_checkpoint(tmp_path):
    path = tmp_path / "run.safetensors"
    learner = fm.MAML(fm.MLP((1, 8, 1)), inner_lr=0.05, device="numpy")
    with pytest.raises(fm.DivergenceError, match=r"Iteration \d+: .*keeps the last checkpoint"):
        learner.fit(SINE, 50, optimizer=fm.SGD(1e12), checkpoint=path, checkpoint_every=1)
    kept = fm.load(path)
    assert np.isfinite(kept.theta).all()
    assert_same_bits(kept, learner)


def test_divergence_within_the_inner_loop_names_the_inner_step():
    with pytest.raises(fm.DivergenceError, match=r"Iteration 1: .*inner step \d+ of 20"):
        maml(inner_lr=1e6, inner_steps=20).fit(fm.tasks.Sinusoid(amplitude=(1e5, 1e6)), 3)


class Slope(GradientLearner):
    """A learner with a meta-gradient of choice."""

    slope: float = 1.0

    def meta_gradients(self, batch: fm.Batch) -> tuple[float, dict[str, Any]]:
        return 1.0, {"theta": np.full(NET.parameter_count, self.slope, np.float32)}


@pytest.mark.parametrize("optimizer", [fm.Adam(), fm.SGD(1e10)])
@pytest.mark.parametrize("slope", [np.nan, np.inf, 1e35])
def test_gradient_that_is_not_finite_or_overflows(slope, optimizer):
    learner = Slope(NET, 0.1, 1, "numpy")
    learner.slope = slope
    message = r"Iteration 1: the (meta-gradient|update) of theta (is not finite|overflows)\. Lower"
    with pytest.raises(fm.DivergenceError, match=message):
        learner.fit(SINE, 3, optimizer=optimizer)
    np.testing.assert_array_equal(learner.theta, NET.init(0))


# adaptation and evaluation


def test_adapt_and_predict_a_regression():
    learner = maml(inner_steps=2).fit(SINE, 1)
    batch = SINE.sample(3, seed=5)
    model = learner.adapt(batch.x_support[0], batch.y_support[0])
    phi = fm.adapt(NET, learner.theta, batch.x_support[0], batch.y_support[0], 0.05, 2, device="numpy")
    np.testing.assert_array_equal(model.theta, phi)
    outputs = fm.predict(NET, phi, batch.x_query[0], device="numpy")
    np.testing.assert_array_equal(model.predict(batch.x_query[0]), outputs)
    several = learner.adapt(batch.x_support, batch.y_support).predict(batch.x_query)
    assert several.shape == (3, 5, 1)
    np.testing.assert_allclose(several[0], outputs, rtol=1e-5, atol=1e-6)
    with pytest.raises(TypeError, match="probabilities need integer labels"):
        model.probabilities(batch.x_query[0])


def test_adapt_and_predict_labels():
    tasks = clusters()
    learner = fm.MAML(fm.MLP((6, 16, 3)), inner_lr=0.5, inner_steps=5, device="numpy").fit(tasks, 20)
    batch = tasks.sample(1, seed=3)
    model = learner.adapt(batch.x_support[0], batch.y_support[0])
    labels, probabilities = model.predict(batch.x_query[0]), model.probabilities(batch.x_query[0])
    assert labels.shape == batch.y_query[0].shape
    assert labels.dtype.kind == "i"
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), labels)
    np.testing.assert_array_equal(model.outputs(batch.x_query[0]).argmax(axis=1), labels)
    assert (labels == batch.y_query[0]).mean() > 0.8


def test_predictions_that_are_not_finite_are_refused():
    model = AdaptedModel(fm.MLP((1, 3)), np.full(6, 1e30, np.float32), True, "numpy")
    for method in (model.outputs, model.predict, model.probabilities):
        with pytest.raises(fm.DivergenceError, match=r"output 0 of sample 1 is inf: theta or x are too large"):
            method([[1.0], [1e20]])


def test_probabilities_of_outputs_far_apart():
    theta = np.array([1, -1, 0, 0], np.float32)
    model = AdaptedModel(fm.MLP((1, 2)), theta, True, "numpy")
    np.testing.assert_array_equal(model.probabilities([[3e38]]), [[1, 0]])


def test_no_inner_steps_leave_theta_alone():
    learner = maml().fit(SINE, 1)
    batch = SINE.sample(1, seed=5)
    model = learner.adapt(batch.x_support[0], batch.y_support[0], inner_steps=0)
    np.testing.assert_array_equal(model.theta, learner.theta)


def test_weights_of_zero_leave_samples_out():
    learner = maml().fit(SINE, 1)
    batch = SINE.sample(1, seed=5)
    x, y = batch.x_support[0], batch.y_support[0]
    weights = np.array([1, 1, 0, 0, 0]) * 5 / 2
    some, masked = learner.adapt(x[:2], y[:2]), learner.adapt(x, y, weights=weights)
    np.testing.assert_allclose(masked.theta, some.theta, rtol=1e-6, atol=1e-7)


def test_rates_of_each_step_repeat_the_last_one_beyond_training():
    rates = np.array([[0.05], [0.02]])
    learner = maml(inner_lr=rates, inner_steps=2).fit(SINE, 1)
    batch = SINE.sample(1, seed=5)
    x, y = batch.x_support[0], batch.y_support[0]
    long = np.array([[0.05], [0.02], [0.02], [0.02]])
    phi = fm.adapt(NET, learner.theta, x, y, long, 4, device="numpy")
    np.testing.assert_array_equal(learner.adapt(x, y, inner_steps=4).theta, phi)
    short = fm.adapt(NET, learner.theta, x, y, long[:1], 1, device="numpy")
    np.testing.assert_array_equal(learner.adapt(x, y, inner_steps=1).theta, short)


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_evaluate_is_the_mean_over_seeded_episodes(device):
    learner = maml(device=device, inner_steps=2).fit(SINE, 2)
    score = learner.evaluate(SINE, episodes=7, seed=4)
    for i, value in enumerate(score.values):
        batch = SINE.sample(1, seed=4, step=i)
        model = learner.adapt(batch.x_support[0], batch.y_support[0])
        errors = (model.predict(batch.x_query[0]) - batch.y_query[0]) ** 2
        assert value == pytest.approx(errors.mean(), rel=1e-5)
    assert score.measure == "mse"
    assert score.batch_norm == ""
    np.testing.assert_array_equal(score.values, learner.evaluate(SINE, episodes=7, seed=4).values)
    assert (score.values != learner.evaluate(SINE, episodes=7, seed=5).values).all()


def test_evaluate_several_inner_steps_at_once():
    learner = maml(inner_lr=np.array([[0.05], [0.02]]), inner_steps=2).fit(SINE, 2)
    scores = learner.evaluate(SINE, episodes=6, inner_steps=(5, 0, 1, 5))
    assert list(scores) == [5, 0, 1]
    assert list(learner.evaluate(SINE, episodes=6, inner_steps=np.array([5, 0, 1]))) == [5, 0, 1]
    for steps, score in scores.items():
        alone = learner.evaluate(SINE, episodes=6, inner_steps=steps)
        np.testing.assert_allclose(score.values, alone.values, rtol=1e-6)


def test_episodes_do_not_depend_on_how_many_are_computed_together():
    learner = maml().fit(SINE, 2)
    whole = learner.evaluate(SINE, episodes=10)
    for together in (1, 3, 10):
        score = learner.evaluate(SINE, episodes=10, tasks_per_step=together)
        np.testing.assert_allclose(score.values, whole.values, rtol=1e-5)


def test_accuracy_states_the_batch_norm_mode():
    layers = [fm.Linear(8), fm.BatchNorm(), fm.ReLU(), fm.Linear(3)]
    learner = fm.MAML(fm.Network(layers, 6), inner_lr=0.1, device="numpy").fit(clusters(), 2)
    score = learner.evaluate(clusters(), episodes=10)
    assert score.measure == "accuracy"
    assert score.batch_norm == "transductive"
    assert "transductive batch norm" in repr(learner)
    np.testing.assert_allclose(score.values * 12, np.round(score.values * 12), atol=1e-9)


def test_episodes_that_diverge_are_counted():
    """Some curves are so large that adaptation blows up: they are left out of the mean and said."""
    learner = fm.MAML(fm.MLP((1, 8, 1)), 0.05, device="numpy").fit(SINE, 1)
    mixed = fm.tasks.Sinusoid(amplitude=(1e-3, 2e2))
    scores = learner.evaluate(mixed, episodes=12, inner_steps=[0, 40], tasks_per_step=5)
    assert scores[0].diverged == 0
    assert 0 < scores[40].diverged < 12
    assert np.isinf(scores[40].values).sum() == scores[40].diverged
    assert f"({scores[40].diverged} diverged)" in str(scores[40])
    alone = learner.evaluate(mixed, episodes=12, inner_steps=40, tasks_per_step=1)
    np.testing.assert_allclose(alone.values, scores[40].values, rtol=1e-4)


def test_an_accuracy_that_diverged_is_no_accuracy_of_0():
    tasks = clusters()
    wild = fm.tasks.from_arrays(np.where(tasks.y[:, None] < 2, np.float32(1e15), 1) * tasks.x, tasks.y, 3, 2, 4)
    learner = fm.MAML(fm.MLP((6, 16, 3)), 0.5, 5, device="numpy").fit(tasks, 1)
    score = learner.evaluate(wild, episodes=12, tasks_per_step=5)
    large = np.array([np.abs(wild.sample(1, seed=1, step=i).x_support).max() > 1e10 for i in range(12)])
    assert 0 < score.diverged == np.isnan(score.values).sum() <= large.sum() < 12
    assert np.isfinite(score.values[~large]).all()


def test_evaluation_in_which_all_diverge_says_so():
    learner = fm.MAML(fm.MLP((1, 8, 1)), 0.05, device="numpy").fit(SINE, 1)
    wild = fm.tasks.Sinusoid(amplitude=(1e10, 2e10))
    with pytest.raises(fm.DivergenceError, match=r"All 4 episodes diverge within 50 inner steps"):
        learner.evaluate(wild, episodes=4, inner_steps=50)


# bad input


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fm.MAML("net"), TypeError, "net='net' must be a Network, such as MLP"),
        (lambda: maml(inner_lr=-0.1), ValueError, r"inner_lr=-0\.1 must be positive"),
        (lambda: maml(inner_lr=[0.1, np.nan]), ValueError, "inner_lr must be finite"),
        (lambda: maml(inner_lr=np.ones((1, 1, 1))), ValueError, r"inner_lr of shape \(1, 1, 1\) must be"),
        (lambda: maml(inner_lr=[[0.1], [0.1, 0.2]]), ValueError, "inner_lr must be an array; its rows differ"),
        (lambda: maml(inner_lr=["a"]), TypeError, "inner_lr of dtype <U1 must be numbers"),
        (lambda: maml(inner_lr=1e-60).fit(SINE, 0), ValueError, "inner_lr=1e-60 must not be 0 as float32"),
        (lambda: maml(inner_lr=[1e300]).fit(SINE, 0), ValueError, "inner_lr is too large for float32"),
        (lambda: maml(inner_steps=0), ValueError, "inner_steps=0 must be at least 1"),
        (lambda: maml(inner_steps=10**12), ValueError, "inner_steps=1000000000000 must be at most 1000000"),
        (lambda: maml(device="gpu"), ValueError, 'device="gpu" must be one of'),
        (lambda: maml().theta, RuntimeError, "MAML has learned nothing yet. Call fit"),
        (lambda: maml().save("never"), RuntimeError, "MAML has learned nothing yet"),
        (lambda: maml().evaluate(SINE), RuntimeError, "MAML has learned nothing yet"),
        (lambda: maml().adapt([[1.0]], [[1.0]]), RuntimeError, "MAML has learned nothing yet"),
        (lambda: maml().fit(SINE, -1), ValueError, "iterations=-1 must be at least 0"),
        (lambda: maml().fit(SINE, 1.5), TypeError, r"iterations=1\.5 must be a whole number"),
        (lambda: maml().fit(SINE, 1, tasks_per_step=0), ValueError, "tasks_per_step=0 must be at least 1"),
        (lambda: maml().fit(SINE, 1, seed=-1), ValueError, "seed=-1 must be at least 0"),
        (lambda: maml().fit(SINE, 1, optimizer=0.1), TypeError, r"optimizer=0\.1 must be an optimizer"),
        (lambda: maml().fit([], 1), TypeError, r"tasks=\[\] must have sample\(tasks, seed, step\)"),
        (
            lambda: maml().fit(SINE, 1, theta=np.zeros(3)),
            ValueError,
            r"theta of shape \(3,\) must be \(25,\)",
        ),
        (lambda: maml().fit(SINE, 1, theta=np.full(25, np.nan)), ValueError, "theta must be finite"),
        (
            lambda: maml().fit(SINE, 1, checkpoint_every=0),
            ValueError,
            "checkpoint_every=0 must be at least 1",
        ),
        (lambda: maml().fit(SINE, 1, resume=True), ValueError, "resume=True must come with a checkpoint"),
        (
            lambda: maml().fit(SINE, 1, resume=True, checkpoint="never", theta=NET.init(1)),
            ValueError,
            r"theta must be left out with resume=True: training goes on from the checkpoint's\.",
        ),
        (
            lambda: maml().fit(SINE, 0).adapt([[1.0], [1.0, 2.0]], [[1.0]] * 2),
            ValueError,
            "x_support must be an array;",
        ),
        (lambda: maml().fit(SINE, 0).evaluate(SINE, 1, []), ValueError, r"inner_steps=\[\] must not be empty\. Name"),
        (lambda: maml().fit(SINE, 0).evaluate(SINE, 1, np.ones(2)), TypeError, r"inner_steps=1\.0 must be a whole"),
        (lambda: maml().fit(SINE, 0).evaluate(SINE, 0), ValueError, "episodes=0 must be at least 1"),
        (lambda: maml().fit(SINE, 0).evaluate(SINE, 1, -1), ValueError, "inner_steps=-1 must be at least 0"),
        (
            lambda: maml().fit(SINE, 0).evaluate(TwoOutputs(), 1, 0),
            ValueError,
            r"y_support of shape \(1, 5, 2\)",
        ),
        (lambda: maml().fit(clusters(), 1), ValueError, "x_support has 6 features but this network takes 1"),
    ],
)
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_failed_fit_keeps_what_was_learned(tmp_path):
    learner = maml().fit(SINE, 2)
    theta = learner.theta
    with pytest.raises(ValueError, match="resume=True"):
        learner.fit(SINE, 1, resume=True)
    assert learner.theta is theta


def test_a_loaded_learner_does_small_work_without_numba(tmp_path):
    """`load` without a device adapts with NumPy until Numba is there; with one it computes where it is told."""
    path = tmp_path / "maml.safetensors"
    maml = fm.MAML(fm.MLP((1, 8, 1)), device="numpy").fit(fm.tasks.Sinusoid(), iterations=1)
    maml.save(path)
    program = (
        "import sys, numpy as np, fastmeta as fm; x = np.linspace(-1, 1, 10)[:, None].astype('f');"
        "model = fm.load(sys.argv[1], *sys.argv[2:]).adapt(x, np.sin(x)); model.predict(x);"
        "print(model.device, 'numba' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])}
    shown = []
    for device in ((), ("cpu",)):
        command = [sys.executable, "-c", program, str(path), *device]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        shown.append(done.stdout)
    assert shown == ["numpy False\n", "cpu True\n"]
