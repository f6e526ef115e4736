"""Episodes of different sizes, and of different weights, score what each scores alone: to the bit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

import fastmeta as fm
from tests.algorithms.learners import LEARNERS

NORMED = fm.Network([fm.Linear(6), fm.BatchNorm(), fm.Tanh(), fm.Linear(4)], 5)
LARGE = np.random.default_rng(0).standard_normal((160, 5)).astype(np.float32)
ALL = fm.tasks.from_arrays(LARGE, np.arange(160) % 8, ways=4, shots=2, queries=6)


@dataclass(frozen=True)
class Uneven:
    """Episodes whose number of ways, support or query samples, weights or dtype change with the step."""

    kind: str

    def sample(self, tasks: int, seed: int, step: int = 0) -> fm.Batch:
        """An episode, a pure function of (seed, step)."""
        turn = step % 3
        sizes: dict[str, Any] = {
            "shots": {"shots": 1 + turn},
            "queries": {"queries": 3 + turn},
            "ways": {"ways": 2 + turn},
            "all": {"ways": 2 + turn, "shots": 1 + step % 2, "queries": 2 + step % 4},
        }.get(self.kind, {})
        batch = replace(ALL, **sizes).sample(tasks, seed, step)
        rng = np.random.default_rng((seed, step))
        if self.kind == "query weights" and turn == 1:
            batch = replace(batch, query_weights=rng.random(batch.y_query.shape) + (turn == 1))
        if self.kind == "support weights" and turn == 2:
            batch = replace(batch, support_weights=rng.random(batch.y_support.shape))
        if self.kind == "dtypes" and turn:
            batch = replace(batch, x_support=batch.x_support.astype(np.float64), y_query=batch.y_query.astype(np.int8))
        if self.kind == "ways of equal sizes":  # labels 0 .. 2 + turn - 1 among as many samples
            order = np.arange(8) % (2 + turn)
            batch = replace(batch, y_support=np.tile(order, (tasks, 1)), y_query=batch.y_query % (2 + turn))
        return batch


KINDS = ("shots", "queries", "ways", "all", "query weights", "support weights", "dtypes", "ways of equal sizes")
OTHERS = {
    "ProtoNet": lambda net, **o: fm.ProtoNet(net, **o),
    "Transfer": lambda net, **o: fm.Transfer(fm.Network([*net.layers[:-1], fm.Linear(8)], 5), **o),
    "Transfer, transductive": lambda net, **o: fm.Transfer(
        fm.Network([*net.layers[:-1], fm.Linear(8)], 5), "cosine", inductive=False, **o
    ),
}
ALGORITHMS = LEARNERS | OTHERS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_together_they_score_what_each_scores_alone(name: str, kind: str) -> None:
    if name == "ProtoNet" and "weights" in kind:
        pytest.skip("prototypes have no weights")
    learner = ALGORITHMS[name](NORMED, device="numpy").fit(ALL, 2)
    together = learner.evaluate(Uneven(kind), episodes=7, tasks_per_step=7)
    for chunk in (1, 3):
        parts = learner.evaluate(Uneven(kind), episodes=7, tasks_per_step=chunk)
        np.testing.assert_array_equal(parts.values, together.values)
        assert parts.stream == together.stream
    assert len(set(together.values)) > 1


@pytest.mark.parametrize("name", ["MAML", "Reptile", "ProtoNet", "Transfer"])
def test_on_the_compiled_kernels_too(name: str) -> None:
    learner = ALGORITHMS[name](NORMED, device="cpu").fit(ALL, 2)
    together, alone = (learner.evaluate(Uneven("all"), 7, tasks_per_step=chunk) for chunk in (7, 1))
    np.testing.assert_array_equal(together.values, alone.values)


def test_weights_of_any_episode_count_with_the_right_value() -> None:
    """The accuracy is the weighted share of right predictions, whichever episode of a chunk has weights."""
    learner = fm.MAML(NORMED, device="numpy").fit(ALL, 2)
    for first in (0, 1, 2):  # the chunk begins with weights, or has them second, or last

        class Source:
            def sample(self, tasks: int, seed: int, step: int = 0) -> fm.Batch:
                return Uneven("query weights").sample(tasks, seed, step + first)  # noqa: B023

        score = learner.evaluate(Source(), episodes=3, tasks_per_step=3)
        for i, value in enumerate(score.values):
            episode = Source().sample(1, seed=1, step=i)
            model = learner.adapt(episode.x_support[0], episode.y_support[0])
            right = model.predict(episode.x_query[0]) == episode.y_query[0]
            weights = None if episode.query_weights is None else episode.query_weights[0]
            assert value == pytest.approx(np.average(right, weights=weights), abs=1e-12)


def test_weights_of_a_regression_count() -> None:
    class Source:
        def sample(self, tasks: int, seed: int, step: int = 0) -> fm.Batch:
            batch = fm.tasks.Sinusoid(shots=3 + step % 2, queries=4).sample(tasks, seed, step)
            weights = np.tile([1.0, 0.0, 3.0, 0.0], (tasks, 1)) if step % 2 else None
            return replace(batch, query_weights=weights)

    learner = fm.MAML(fm.MLP((1, 8, 1)), device="numpy").fit(fm.tasks.Sinusoid(), 1)
    score = learner.evaluate(Source(), episodes=4)
    for i, value in enumerate(score.values):
        episode = Source().sample(1, seed=1, step=i)
        outputs = learner.adapt(episode.x_support[0], episode.y_support[0]).predict(episode.x_query[0])
        errors = np.square(outputs.astype(np.float64) - episode.y_query[0])[:, 0]
        assert value == pytest.approx(np.average(errors, weights=[1, 0, 3, 0] if i % 2 else None), rel=1e-5)


def test_what_is_no_episode_is_named() -> None:
    learner = fm.MAML(NORMED, device="numpy").fit(ALL, 0)

    class Two:
        def sample(self, tasks: int, seed: int, step: int = 0) -> fm.Batch:
            return ALL.sample(2, seed, step)

    class Mixed:
        def sample(self, tasks: int, seed: int, step: int = 0) -> fm.Batch:
            batch = ALL.sample(tasks, seed, step)
            targets = np.zeros((tasks, 1, 1)) + np.eye(4)[batch.y_query]
            return batch if step else replace(batch, y_support=np.eye(4)[batch.y_support], y_query=targets)

    with pytest.raises(
        ValueError, match=r"tasks.sample\(1, seed=1, step=0\) must give a fastmeta.Batch of one task, not 2"
    ):
        learner.evaluate(Two(), 2)
    with pytest.raises(ValueError, match="integer labels in all episodes or float targets in all"):
        learner.evaluate(Mixed(), 2)
