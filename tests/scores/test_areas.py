from __future__ import annotations

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.scores.areas import area
from fastmeta.scores.evaluation import query_values


def by_pairs(values, positive, weights):
    """The definition: every pair of a positive and a negative sample."""
    total = right = 0.0
    for i in np.flatnonzero(positive):
        for j in np.flatnonzero(~positive):
            total += weights[i] * weights[j]
            right += weights[i] * weights[j] * ((values[i] > values[j]) + 0.5 * (values[i] == values[j]))
    return right / total


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_share_of_pairs_in_the_right_order(seed):
    rng = np.random.default_rng(seed)
    values, positive = rng.integers(6, size=40).astype(float), rng.random(40) < 0.3  # with many ties
    weights = rng.integers(3, size=40).astype(float)
    assert area(values, positive) == pytest.approx(by_pairs(values, positive, np.ones(40)), abs=1e-12)
    assert area(values, positive, weights) == pytest.approx(by_pairs(values, positive, weights), abs=1e-12)
    assert area(-values, positive) == pytest.approx(1 - area(values, positive), abs=1e-12)


def test_samples_of_weight_0_do_not_count():
    outputs = np.array([[[0, 1], [1, 0], [0, 9], [0, 0]]], np.float32)
    y, weights = np.array([[1, 0, 0, 0]]), np.array([[1, 1, 0, 1]])
    assert query_values(outputs, y, None, "auc") == pytest.approx([2 / 3])
    assert query_values(outputs, y, weights, "auc") == pytest.approx([1.0])


def test_bad_sets():
    y = np.zeros((1, 4), np.int64)
    with pytest.raises(ValueError, match="must have samples of both classes in every query set"):
        query_values(np.zeros((1, 4, 2)), y, None, "auc")
    with pytest.raises(ValueError, match='measure="auc" must be of two classes, not of 3 outputs'):
        query_values(np.zeros((1, 4, 3)), y, None, "auc")


class Ranked:
    """Two classes, whose queries are far from even."""

    measure = "auc"

    def sample(self, tasks: int, seed: int, step: int = 0) -> fm.Batch:
        rng = np.random.default_rng((seed, step))
        x = rng.normal(size=(tasks, 24, 3)).astype(np.float32)
        y = np.tile(np.arange(24) % 4 == 0, (tasks, 1)).astype(int)
        x[..., 0] += 2 * y
        return fm.Batch(x[:, :8], y[:, :8], x[:, 8:], y[:, 8:])


def test_tasks_say_how_they_are_scored():
    for learner in (fm.ProtoNet(fm.MLP((3, 3), scheme="identity"), device="numpy"), fm.MAML(fm.MLP((3, 2)), 0.1)):
        found = learner.fit(Ranked(), 0).evaluate(Ranked(), 5)
        score = found if isinstance(found, fm.Score) else found[1]
        assert score.measure == "auc"
        assert score.stream
    one = Ranked().sample(1, seed=1)
    protonet = fm.ProtoNet(fm.MLP((3, 3), scheme="identity"), device="numpy").fit(Ranked(), 0)
    logits = protonet.adapt(one.x_support[0], one.y_support[0]).outputs(one.x_query[0])
    expected = by_pairs(logits[:, 1] - logits[:, 0], one.y_query[0] == 1, np.ones(16))
    assert protonet.evaluate(Ranked(), 1).values == pytest.approx([expected])
    assert str(fm.Score(np.array([0.8, 0.6]), "auc")) == "70.00 % ± 13.86"
    wrong = Ranked()
    wrong.measure = "area"
    with pytest.raises(ValueError, match=r'tasks\.measure="area" must be one of "accuracy", "auc", "mse"'):
        protonet.evaluate(wrong, 1)
