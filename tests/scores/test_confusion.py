"""Confusions and accuracies by class name, against a count by hand of every query sample."""

from __future__ import annotations

import pickle
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.scores import evaluation
from fastmeta.scores.answers import joined
from fastmeta.tasks.episode import Batch

NAMES = ["dog", "ant", "cow", "bee", "eel"]
RNG = np.random.default_rng(0)
X = np.repeat(RNG.normal(size=(5, 4)), 12, axis=0) + 0.6 * RNG.normal(size=(60, 4))
Y = [name for name in NAMES for _ in range(12)]
TASKS = fm.tasks.from_arrays(X, Y, ways=3, shots=(1, 2), queries=(2, 6))


def protonet() -> fm.ProtoNet:
    return fm.ProtoNet(fm.MLP((4, 8, 4)), device="numpy").fit(TASKS, 0)


def by_hand(learner: Any, tasks: Any, episodes: int, seed: int = 1) -> tuple[Counter, Counter, dict[Any, list[float]]]:
    """(true, called) -> samples; (true, other) -> samples in whose episode the other was; class -> its accuracies.

    Whose a sample is is looked up by its values.
    """
    home = {x.astype(np.float32).tobytes(): name for x, name in zip(X, Y, strict=True)}
    counts: Counter = Counter()
    met: Counter = Counter()
    shares: dict[Any, list[float]] = defaultdict(list)
    for i in range(episodes):
        batch = tasks.sample(1, seed=seed, step=i)
        support = [home[x.tobytes()] for x in batch.x_support[0]]
        classes = dict(zip(batch.y_support[0].tolist(), support, strict=True))
        called = learner.query_outputs(batch)[0].argmax(axis=1)
        right: dict[Any, list[bool]] = defaultdict(list)
        for x, label in zip(batch.x_query[0], called.tolist(), strict=True):
            true = home[x.tobytes()]
            counts[true, classes.get(label)] += 1
            right[true].append(true == classes.get(label))
            for other in classes.values():
                met[true, other] += 1
        for name, values in right.items():
            shares[name].append(float(np.mean(values)))
    return counts, met, shares


@pytest.mark.parametrize("chunk", [1, 7, 25])
def test_every_sample_is_counted_once(chunk):
    learner = protonet()
    score = learner.evaluate(TASKS, 40, tasks_per_step=chunk)
    counts, met, shares = by_hand(learner, TASKS, 40)
    found, classes = score.confusion(), score.per_class()
    assert found.names == classes.names == tuple(sorted(NAMES))
    for i, true in enumerate(found.names):
        for j, called in enumerate(found.names):
            assert found.counts[i, j] == counts[true, called]
            assert found.met[i, j] == met[true, called]
        assert classes.means[i] == pytest.approx(np.mean(shares[true]), abs=1e-15)
        assert classes.ci95[i] == pytest.approx(1.96 * np.std(shares[true]) / len(shares[true]) ** 0.5, abs=1e-12)
        assert classes.episodes[i] == len(shares[true])
        assert classes.samples[i] == found.counts[i].sum()
    assert found.counts.dtype == np.int64
    assert not found.none.any()
    assert found.counts.sum() > found.counts.trace() > 0  # or nothing is shown
    np.testing.assert_allclose(found.rates, found.counts / found.met)


def test_a_label_beyond_the_episodes_classes_is_none_of_them():
    maml = fm.MAML(fm.MLP((4, 8, 6)), inner_lr=0.01, inner_steps=1, device="numpy").fit(TASKS, 0)
    scores = maml.evaluate(TASKS, 30, inner_steps=[0, 1])
    found = scores[0].confusion()
    assert found.none.sum() > 0
    counts, _, _ = by_hand(maml, TASKS, 30)
    found = scores[1].confusion()
    assert {name: int(found.none[i]) for i, name in enumerate(found.names)} == {n: counts[n, None] for n in found.names}
    assert "none of them" in scores[0].confusion().table() == str(scores[0].confusion())
    total = found.counts.sum() + found.none.sum()
    assert total == sum(TASKS.sample(1, 1, i).y_query.size for i in range(30))


def test_a_loaded_learner_and_a_pickled_score_know_them_too(tmp_path):
    learner = protonet()
    score = learner.evaluate(TASKS, 10)
    learner.save(tmp_path / "x")
    again = fm.load(tmp_path / "x", device="numpy").evaluate(TASKS, 10)
    for other in (again, pickle.loads(pickle.dumps(score))):
        np.testing.assert_array_equal(other.confusion().counts, score.confusion().counts)
        assert other.confusion().names == score.confusion().names


class Source:
    """TASKS, with something changed."""

    def __init__(self, **changes: Any) -> None:
        self.changes = changes

    def sample(self, tasks: int, seed: int, step: int = 0) -> Batch:
        return replace(TASKS.sample(tasks, seed, step), **self.changes.get("batch", {}))

    def __getattr__(self, name: str) -> Any:
        if name in self.changes:
            return self.changes[name]
        raise AttributeError(name)


def test_a_source_of_ones_own_may_name_its_classes():
    source = Source(class_names=TASKS.class_names, classes_of=TASKS.classes_of)
    wanted, found = (protonet().evaluate(tasks, 10).confusion() for tasks in (TASKS, source))
    np.testing.assert_array_equal(found.counts, wanted.counts)
    for classes_of, message in (
        (lambda tasks, seed, step: [[0, 1]], "must give the class of every label"),
        (lambda tasks, seed, step: [[0, 1, 5]], r"must give places in tasks\.class_names, below 5"),
    ):
        with pytest.raises(ValueError, match=message):
            protonet().evaluate(Source(class_names=TASKS.class_names, classes_of=classes_of), 3)


def test_parts_of_the_episodes_join_to_the_whole():
    learner, steps = protonet(), [0]

    def outputs(batch: Batch, steps: Any) -> Any:
        return [learner.query_outputs(batch)]

    spans = (range(4), range(4, 9), range(9, 9), range(9, 20))
    parts = [evaluation._values(outputs, TASKS, span, (), steps, 1, 3, None).answers[0] for span in spans]
    whole = learner.evaluate(TASKS, 20).answers
    found = joined(parts)
    assert whole is not None
    assert found is not None
    for name in ("classes", "cells", "counts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
    assert parts[2] is None


def test_weights_of_samples_are_added():
    single = fm.tasks.from_arrays(X, Y, ways=3, shots=1, queries=2)

    class Weighted(Source):
        def sample(self, tasks: int, seed: int, step: int = 0) -> Batch:
            batch = single.sample(tasks, seed, step)
            return replace(batch, query_weights=np.tile([0.0, 0.5], (tasks, 3)))

    maml = fm.MAML(fm.MLP((4, 8, 3)), 0.1, device="numpy").fit(single, 0)
    score = maml.evaluate(Weighted(class_names=single.class_names, classes_of=single.classes_of), 8)
    found = score.confusion()
    assert found.counts.sum() == 8 * 3 * 0.5
    assert found.counts.trace() / found.counts.sum() == pytest.approx(score.mean)


@pytest.mark.parametrize(
    ("tasks", "measure"), [(Source(), "accuracy"), (fm.tasks.Sinusoid(), "mse"), (fm.tasks.AttributeClasses(), "acc")]
)
def test_where_classes_are_unknown_that_is_said(tasks, measure):
    width, outputs = {"accuracy": (4, 3), "mse": (1, 1), "acc": (10, 5)}[measure]
    score = fm.MAML(fm.MLP((width, outputs)), 0.01, device="numpy").fit(tasks, 0).evaluate(tasks, 3)
    for ask in (score.confusion, score.per_class, fm.Score(np.ones(3)).confusion):
        with pytest.raises(ValueError, match="must know the classes of its episodes"):
            ask()


def test_an_episode_that_diverged_is_left_out():
    big = fm.tasks.from_arrays(np.where(np.arange(60)[:, None] == 3, 1e30, X), Y, ways=3, shots=1, queries=6)
    maml = fm.MAML(fm.MLP((4, 8, 3)), inner_lr=1.0, inner_steps=3, device="numpy").fit(TASKS, 0)
    score = maml.evaluate(big, 20)
    assert 0 < score.diverged < 20
    assert score.confusion().counts.sum() == 18 * (20 - score.diverged)


def test_tables():
    score = protonet().evaluate(TASKS, 40)
    found = score.confusion()
    lines = found.table().splitlines()
    assert lines[0].split() == sorted(NAMES)
    assert [line.split()[0] for line in lines[1:]] == sorted(NAMES)
    assert [int(cell) for cell in lines[2].split()[1:]] == found.counts[1].tolist()
    rows = [line.split() for line in score.per_class().table().splitlines()[1:]]
    assert [float(row[1]) for row in rows] == sorted(round(100 * mean, 2) for mean in score.per_class().means)
    x, y = np.repeat(np.arange(30.0), 4)[:, None] % 7, np.repeat(np.arange(30), 4)
    many = fm.tasks.from_arrays(x, y, ways=5, shots=1, queries=3)
    found = fm.ProtoNet(fm.MLP((1, 2)), device="numpy").fit(many, 0).evaluate(many, 60).confusion()
    lines = found.table().splitlines()
    assert 1 < len(lines) <= 21
    wrong = found.counts * (1 - np.eye(30, dtype=int))
    first = lines[1].split()
    assert int(first[2]) == wrong.max() == wrong[int(first[0]), int(first[1])]
    assert int(first[4]) == found.met[int(first[0]), int(first[1])]


def test_it_takes_little_memory():
    x, y = np.zeros((1000, 2), np.float32), np.repeat(np.arange(200), 5)
    tasks = fm.tasks.from_arrays(x, y, ways=20, shots=1, queries=4)
    answers = fm.ProtoNet(fm.MLP((2, 2)), device="numpy").fit(tasks, 0).evaluate(tasks, 50).answers
    assert answers is not None
    assert sum(a.nbytes for a in (answers.classes, answers.cells, answers.counts)) < 50 * 20 * (4 + 2 * 20)
