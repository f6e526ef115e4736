"""A fit that begins with what was learned before, and one that keeps what was best on validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.learning.learner import Learner

RNG = np.random.default_rng(0)
CENTRES = RNG.standard_normal((12, 4))
X = np.repeat(CENTRES, 10, axis=0) + 0.5 * RNG.standard_normal((120, 4))
LABELS = np.repeat(np.arange(12), 10)


def classes(first: int, last: int) -> Any:
    rows = (first <= LABELS) & (last > LABELS)
    return fm.tasks.from_arrays(X[rows], LABELS[rows], ways=3, shots=1, queries=4)


TRAIN, VALIDATION = classes(0, 6), classes(6, 12)
NET = fm.MLP((4, 8, 3))
KINDS = {
    "MetaSGD": lambda: fm.MetaSGD(NET, inner_lr=0.1, device="numpy"),
    "Reptile": lambda: fm.Reptile(NET, inner_lr=0.02, inner_optimizer="adam", device="numpy"),
    "ProtoNet": lambda: fm.ProtoNet(NET, device="numpy"),
    "MAML++": lambda: fm.MAMLPlusPlus(NET, inner_lr=0.1, device="numpy"),
}


def meta_sgd(**arguments: Any) -> fm.MetaSGD:
    return fm.MetaSGD(NET, **{"inner_lr": 0.1, "device": "numpy"} | arguments)


def assert_learned_the_same(a: Learner, b: Learner) -> None:
    assert a.parameters.keys() == b.parameters.keys()
    for name, values in a.parameters.items():
        assert values.tobytes() == b.parameters[name].tobytes()


# start


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_of_no_iterations_from_a_start_has_learned_all_that_it_had(kind, tmp_path):
    first = KINDS[kind]().fit(TRAIN, 3, tasks_per_step=2)
    first.save(tmp_path / "checkpoint.safetensors")
    for start in (first, first.parameters, tmp_path / "checkpoint.safetensors", str(tmp_path)):
        went_on = KINDS[kind]().fit(TRAIN, 0, tasks_per_step=5, optimizer=fm.SGD(0.1), start=start)
        assert_learned_the_same(went_on, first)
    assert went_on.training.step == 0
    before = {name: values.copy() for name, values in first.parameters.items()}
    first.fit(TRAIN, 1, tasks_per_step=2, start=first)
    assert any((before[name] != values).any() for name, values in first.parameters.items())


def test_it_goes_on_as_one_update_from_there():
    first = meta_sgd().fit(TRAIN, 4, tasks_per_step=2)
    batch = VALIDATION.sample(3, seed=5)
    _, slopes = first.meta_gradients(batch)
    went_on = meta_sgd().fit(VALIDATION, 1, 3, fm.SGD(0.5), seed=5, start=first)
    for name, values in first.parameters.items():
        np.testing.assert_array_equal(went_on.parameters[name], values - 0.5 * slopes[name].astype(values.dtype))


def test_a_second_fit_without_it_begins_anew():
    learner = meta_sgd().fit(TRAIN, 4)
    assert_learned_the_same(learner.fit(TRAIN, 2), meta_sgd().fit(TRAIN, 2))


def test_an_interrupted_fit_from_a_start_resumes_without_it(tmp_path):
    first = meta_sgd().fit(TRAIN, 3)
    path = tmp_path / "x.safetensors"
    meta_sgd().fit(TRAIN, 2, optimizer=fm.Adam(1e-2), start=first, checkpoint=path, resume=True)
    resumed = meta_sgd().fit(TRAIN, 5, optimizer=fm.Adam(1e-2), start=tmp_path / "gone", checkpoint=path, resume=True)
    assert_learned_the_same(resumed, meta_sgd().fit(TRAIN, 5, optimizer=fm.Adam(1e-2), start=first))


@pytest.mark.parametrize(
    ("start", "error", "message"),
    [
        (lambda: fm.MAML(NET, inner_lr=0.1, device="numpy").fit(TRAIN, 0), ValueError, "must be of MetaSGD, not MAML"),
        (
            lambda: fm.MetaSGD(fm.MLP((4, 9, 3)), inner_lr=0.1, device="numpy").fit(TRAIN, 0),
            ValueError,
            r"must have the network MLP\(sizes=\(4, 8, 3\)\), not MLP\(sizes=\(4, 9, 3\)\)",
        ),
        (lambda: {"theta": NET.init(0)}, ValueError, r"inner_lr is absent, not \(67,\)"),
        (lambda: {"theta": np.zeros(3)}, ValueError, r"theta is \(3,\), not \(67,\)"),
        (lambda: {"theta": np.full(67, np.nan), "inner_lr": np.ones(67)}, ValueError, "theta"),
        (lambda: {"theta": np.zeros(67, int), "inner_lr": np.ones(67)}, TypeError, "float32 or float64"),
        (meta_sgd, RuntimeError, "has learned nothing yet"),
        (lambda: Path("nowhere"), FileNotFoundError, "nowhere"),
        (lambda: 3, TypeError, "start=3 must be a learner"),
    ],
)
def test_a_start_that_does_not_fit_is_refused_before_anything_is_learned(start, error, message):
    learner = meta_sgd()
    with pytest.raises(error, match=message):
        learner.fit(TRAIN, 1, start=start())
    assert learner._training is None
    with pytest.raises(ValueError, match="theta must be left out with start"):
        learner.fit(TRAIN, 1, start=meta_sgd().fit(TRAIN, 0), theta=NET.init(0))


# validation


def validated(iterations: int = 30, **options: Any) -> fm.MAML:
    options = {"validation": VALIDATION, "validate_every": 3, "validation_episodes": 20} | options
    learner = fm.MAML(NET, inner_lr=0.1, device="numpy")
    return learner.fit(TRAIN, iterations, 2, fm.Adam(0.05), **options)


def test_the_best_is_what_is_learned_in_the_end():
    seen = {}
    learner = fm.MAML(NET, inner_lr=0.1, device="numpy")

    def keep(iteration: int, loss: float) -> None:
        seen[iteration] = learner.theta

    options = {"validation": VALIDATION, "validate_every": 3, "validation_episodes": 20}
    learner.fit(TRAIN, 30, 2, fm.Adam(0.05), callback=keep, **options)
    scores = learner.history["validation"]
    due = np.arange(1, 31) % 3 == 0
    assert np.isfinite(scores[due]).all()
    assert np.isnan(scores[~due]).all()
    assert learner.best is not None
    assert learner.best.step == int(np.nanargmax(scores)) + 1
    assert learner.best.step < 30  # or nothing is shown
    assert learner.best.score == np.nanmax(scores)
    np.testing.assert_array_equal(learner.theta, seen[learner.best.step])
    np.testing.assert_array_equal(learner.training.parameters["theta"], seen[30])
    again = fm.MAML(NET, inner_lr=0.1, device="numpy").fit(TRAIN, 3, 2, start={"theta": seen[learner.best.step]})
    assert again.best is None
    plain = fm.MAML(NET, inner_lr=0.1, device="numpy").fit(TRAIN, 30, 2, fm.Adam(0.05))
    np.testing.assert_array_equal(plain.theta, seen[30])  # validation changes nothing of the training


def test_the_lowest_error_is_the_best():
    sine = fm.tasks.Sinusoid(shots=5, queries=5)
    learner = fm.MAML(fm.MLP((1, 8, 1)), inner_lr=0.01, device="numpy")
    learner.fit(sine, 8, validation=sine, validate_every=2, validation_episodes=5)
    assert learner.best is not None
    assert learner.best.score == np.nanmin(learner.history["validation"])


def test_patience_ends_the_training():
    whole = validated()
    scores = whole.history["validation"][2::3]
    stopped = validated(patience=2)
    best = -1.0
    waited = 0
    for place, score in enumerate(scores, 1):  # noqa: B007
        best, waited = (score, 0) if score > best else (best, waited + 1)
        if waited == 2:
            break
    assert stopped.training.step == 3 * place < 30
    np.testing.assert_array_equal(stopped.history["validation"][2::3], scores[:place])


class Stop(Exception):
    pass


@pytest.mark.parametrize("at", [2, 3, 7, 14])
def test_an_interrupted_one_resumes_to_the_same_bits(tmp_path, at):
    path = tmp_path / "x.safetensors"

    def stop(iteration: int, loss: float) -> None:
        if iteration == at:
            raise Stop

    with pytest.raises(Stop):
        validated(15, checkpoint=path, callback=stop)
    resumed, whole = validated(15, checkpoint=path, resume=True), validated(15)
    assert_learned_the_same(resumed, whole)
    np.testing.assert_array_equal(resumed.history["validation"], whole.history["validation"])
    assert resumed.training.parameters["theta"].tobytes() == whole.training.parameters["theta"].tobytes()
    loaded = fm.load(path, device="numpy")
    assert_learned_the_same(loaded, whole)
    assert loaded.best is not None
    assert (loaded.best.step, loaded.best.score) == (whole.best.step, whole.best.score)  # type: ignore[union-attr]


def test_one_that_was_interrupted_in_its_validation_scores_then(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"

    def stop(*arguments: Any, **options: Any) -> Any:
        raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(fm.MAML, "evaluate", stop)
        with pytest.raises(Stop):
            validated(9, checkpoint=path)
    assert fm.load(path).training.step == 3
    assert_learned_the_same(validated(9, checkpoint=path, resume=True), validated(9))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"validation": None, "patience": 3}, ValueError, "patience=3 must come with validation"),
        ({"validate_every": 0}, ValueError, "validate_every=0 must be"),
        ({"validate_every": 31}, ValueError, "validate_every=31 must be at most iterations=30"),
        ({"patience": 0}, ValueError, "patience=0 must be"),
        ({"validation_episodes": 1.5}, TypeError, "validation_episodes=1.5 must be"),
        ({"validation": 3}, TypeError, "validation=3 must have sample"),
    ],
)
def test_what_cannot_be_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        validated(**options)


def test_other_validation_is_refused_when_a_run_goes_on(tmp_path):
    validated(3, checkpoint=tmp_path / "x")
    with pytest.raises(ValueError, match="validate_every was 3, is 2"):
        validated(6, checkpoint=tmp_path / "x", resume=True, validate_every=2)
    with pytest.raises(ValueError, match="validate_every was 3, is None"):
        validated(6, checkpoint=tmp_path / "x", resume=True, validation=None)


def transfer(iterations: int, **options: Any) -> fm.Transfer:
    net = fm.Network((fm.Linear(8), fm.BatchNorm(), fm.Linear(6)), (4,))
    options = {"validation": VALIDATION, "validate_every": 3, "validation_episodes": 20} | options
    return fm.Transfer(net, "centroid", device="numpy").fit(TRAIN, iterations, 1, fm.Adam(0.2), **options)


def test_transfer_is_validated_with_the_statistics_of_that_iteration(tmp_path):
    learner, path = transfer(30), tmp_path / "x.safetensors"
    scores = learner.history["validation"]
    plain = {"validation": None}
    for step in (3, 9, 30):
        scored = transfer(step, **plain).evaluate(VALIDATION, 20, seed=1_000_002)
        assert scored.mean == scores[step - 1]
    assert learner.best is not None
    assert learner.best.step < 30  # or nothing is shown
    assert_learned_the_same(learner, transfer(learner.best.step, **plain))
    np.testing.assert_array_equal(learner.training.parameters["theta"], transfer(30, **plain).theta)
    transfer(15, checkpoint=path)
    resumed = transfer(30, checkpoint=path, resume=True)
    assert_learned_the_same(resumed, learner)
    assert_learned_the_same(fm.load(path, device="numpy"), learner)
    np.testing.assert_array_equal(resumed.history["validation"], scores)


def named(labels: list[str], ways: int = 2) -> Any:
    """Three samples of each label, as a folder of images has them: numbers with names."""
    x, y = np.random.default_rng(0).random((3 * len(labels), 4)), np.repeat(np.arange(len(labels)), 3)
    return fm.tasks.LabelledTasks(x, y, ways, 1, 2, names=tuple(labels))


def of_people(first: int, last: int) -> Any:
    who = np.repeat(np.arange(first, last), 12)
    x, y = np.random.default_rng(0).random((len(who), 4)), np.arange(len(who)) % 3
    return fm.tasks.from_groups(x, y, who, shots=1, queries=3)


@pytest.mark.parametrize(
    ("tasks", "validation", "message"),
    [
        (TRAIN, classes(4, 12), "share 2 classes, 4, 5: its scores"),
        (TRAIN, TRAIN, "share 6 classes, 0, 1, 2, ...: its scores"),
        (named(["ant", "bee", "cow"]), named(["dog", "bee"]), "share 1 classes, bee: its scores"),
        (of_people(0, 4), of_people(3, 6), "share 1 groups, 3: its scores"),
    ],
)
@pytest.mark.parametrize("kind", [fm.MAML, fm.Transfer])
def test_validation_on_classes_of_training_is_said(kind, tasks, validation, message):
    outputs = len(tasks.classes) if kind is fm.Transfer else 3
    learner = kind(fm.MLP((4, 8, outputs)), device="numpy")
    with pytest.warns(UserWarning, match=message):
        learner.fit(tasks, 1, validation=validation, validate_every=1, validation_episodes=2)


def test_names_that_differ_are_not_warned_of():
    learner = fm.MAML(NET, 0.1, device="numpy")
    learner.fit(named(["ant", "bee"]), 1, validation=named(["cow", "dog"]), validate_every=1, validation_episodes=2)
    learner.fit(of_people(0, 4), 1, validation=of_people(4, 6), validate_every=1, validation_episodes=2)


# manners


def test_params_are_the_constructors_arguments_and_can_be_set():
    learner = meta_sgd().fit(TRAIN, 2)
    theta = learner.theta
    assert learner.get_params()["net"] == NET
    assert learner.set_params(inner_steps=2, device="cpu") is learner
    assert (learner.inner_steps, learner.device) == (2, "cpu")
    np.testing.assert_array_equal(learner.theta, theta)
    learner.set_params(net=fm.MLP((4, 3)))
    with pytest.raises(RuntimeError, match="has learned nothing"):
        _ = learner.theta
    with pytest.raises(ValueError, match='name="inner_rate" must be one of'):
        learner.set_params(inner_rate=3)
    with pytest.raises(ValueError, match="inner_steps=-1"):
        learner.set_params(device="numpy", inner_steps=-1)
    assert learner.device == "cpu"


@pytest.mark.parametrize("kind", KINDS)
def test_a_clone_has_the_arguments_and_nothing_learned(kind):
    learner = KINDS[kind]().fit(TRAIN, 1)
    copied = learner.clone()
    assert f"{copied}" == f"{learner}"
    with pytest.raises(RuntimeError, match="has learned nothing"):
        _ = copied.theta
    assert_learned_the_same(copied.fit(TRAIN, 1), learner)


def test_clone_of_scikit_learn():
    base = pytest.importorskip("sklearn.base", reason="scikit-learn is not installed")
    assert f"{base.clone(meta_sgd())}" == f"{meta_sgd()}"


def test_theta_can_be_set():
    learner, theta = meta_sgd().fit(TRAIN, 3), NET.init(5)
    rates = learner.parameters["inner_lr"]
    learner.theta = theta
    np.testing.assert_array_equal(learner.theta, theta)
    np.testing.assert_array_equal(learner.parameters["inner_lr"], rates)
    assert (learner.training.step, learner.history["loss"].size) == (0, 0)
    made = fm.MAML.from_theta(NET, theta, inner_lr=0.1, device="numpy")
    np.testing.assert_array_equal(made.theta, theta)
    assert np.isfinite(made.evaluate(VALIDATION, 5).mean)
    with pytest.raises(ValueError, match="theta"):
        made.theta = theta[:5]
    np.testing.assert_array_equal(made.theta, theta)
