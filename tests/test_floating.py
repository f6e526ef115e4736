"""What the caller told NumPy about floating errors (np.errstate, np.seterr) changes no result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

import fastmeta as fm
from tests.algorithms.learners import LEARNERS

NORMED = fm.Network([fm.Linear(6), fm.BatchNorm(), fm.Softplus(), fm.Linear(3)], 4)
FAR = np.random.default_rng(0).standard_normal((120, 4)) * np.logspace(-42, 3, 120)[:, None]  # some underflow
LABELS = np.random.default_rng(1).permutation(np.arange(120) % 6)


@contextmanager
def set_for_good(kind: str) -> Iterator[None]:
    before = np.seterr(all=kind)
    try:
        yield
    finally:
        np.seterr(**before)


STATES = {
    "errstate, raise": lambda: np.errstate(all="raise"),
    "errstate, underflow only": lambda: np.errstate(under="raise"),
    "errstate, ignore": lambda: np.errstate(all="ignore"),
    "errstate, call": lambda: np.errstate(all="call", call=lambda *told: pytest.fail(f"called: {told}")),
    "seterr, raise": lambda: set_for_good("raise"),
    "seterr, ignore": lambda: set_for_good("ignore"),
}
OTHERS: dict[str, Callable[..., fm.Learner]] = {
    "ProtoNet": lambda net, **o: fm.ProtoNet(net, **o),
    "ProtoNet, cosine": lambda net, **o: fm.ProtoNet(net, metric="cosine", **o),
    "Transfer, linear": lambda net, **o: fm.Transfer(six(net), "linear", **o),
    "Transfer, cosine": lambda net, **o: fm.Transfer(six(net), "cosine", **o),
    "Transfer, centroid": lambda net, **o: fm.Transfer(six(net), "centroid", inductive=False, **o),
}


def six(net: fm.Network) -> fm.Network:
    """`net` with an output for each class."""
    return fm.Network([*net.layers[:-1], fm.Linear(6)], net.input_shape)


def learned(make: Callable[..., fm.Learner], device: str) -> list[np.ndarray]:
    """All that a learner gives: what it learns, scores, predictions."""
    tasks = fm.tasks.from_arrays(FAR, LABELS, ways=3, shots=2, queries=4)
    learner = make(NORMED, device=device).fit(tasks, 3, tasks_per_step=4, optimizer=fm.Adam(1e-3, clip_norm=1e-3))
    score = learner.evaluate(tasks, episodes=5)
    episode = tasks.sample(1, seed=3)
    model = learner.adapt(episode.x_support[0], episode.y_support[0])
    x = episode.x_query[0]
    loose = np.array([score.mean, score.std, score.ci95, score.median, fm.compare(score, score).mean])
    return [
        *learner.parameters.values(),
        score.values,
        loose,
        model.outputs(x),
        model.predict(x),
        model.probabilities(x),
    ]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_the_functional_layer(device: str, state: str) -> None:
    theta = NORMED.init(0) * np.float32(1e-30)
    batch = fm.tasks.from_arrays(FAR, LABELS, ways=3, shots=2, queries=4).sample(3, seed=0)
    data = (batch.x_support, batch.y_support)

    def results() -> list[np.ndarray]:
        meta = fm.meta_gradient(NORMED, theta, batch, inner_lr=1e-30, inner_steps=2, device=device)
        return [
            fm.predict(NORMED, theta, batch.x_query, device=device),
            fm.loss(NORMED, theta, *data, device=device),
            fm.gradient(NORMED, theta, *data, device=device)[1],
            fm.hvp(NORMED, theta, theta, *data, device=device),
            fm.adapt(NORMED, theta, *data, inner_lr=1e-30, device=device),
            meta.gradient,
            fm.prototype_loss(batch.x_support, batch.y_support, batch.x_query, batch.y_query, device=device)[1],
        ]

    plain = results()
    with STATES[state]():
        for value, wanted in zip(results(), plain, strict=True):
            np.testing.assert_array_equal(value, wanted)


@pytest.mark.parametrize("state", ["errstate, raise", "seterr, ignore"])
@pytest.mark.parametrize("name", [*LEARNERS, *OTHERS])
def test_every_algorithm(name: str, state: str) -> None:
    make = (LEARNERS | OTHERS)[name]
    plain = learned(make, "numpy")
    with STATES[state]():
        for value, wanted in zip(learned(make, "numpy"), plain, strict=True):
            np.testing.assert_array_equal(value, wanted)


@pytest.mark.parametrize("state", STATES)
def test_tasks_and_optimizers(state: str) -> None:
    theta, slope = np.full(3, 1e-20, np.float32), np.full(3, 1e-30, np.float32)

    def results() -> list[np.ndarray]:
        adam, sine = fm.Adam(1e-30), fm.tasks.Sinusoid(x_range=(-1e-300, 1e-300))
        return [
            adam.update(theta, slope, adam.init(theta))[0],
            fm.SGD(1e-30, momentum=0.5).update(theta, slope, fm.SGD(1e-30, momentum=0.5).init(theta))[0],
            fm.tasks.from_arrays(FAR, LABELS, ways=3, shots=1, queries=1).sample(2, seed=0).x_query,
            sine.sample(2, seed=0).y_support,
            fm.MLP((3, 4, 2)).init(0, scheme="truncated_normal"),
            np.array([fm.Score(np.array([1e-200, 3e-200]), "mse").std]),
        ]

    plain = results()
    with STATES[state]():
        for value, wanted in zip(results(), plain, strict=True):
            np.testing.assert_array_equal(value, wanted)


@pytest.mark.parametrize("state", ["errstate, ignore", "seterr, ignore", "errstate, raise"])
@pytest.mark.parametrize("make", [LEARNERS["Reptile with SGD"], LEARNERS["iMAML"], LEARNERS["MAML"]])
def test_divergence_is_noticed_whatever_is_ignored(make: Callable[..., fm.Learner], state: str) -> None:
    curve = fm.tasks.Sinusoid(amplitude=(1e19, 1e20)).sample(1, seed=0)
    with STATES[state](), pytest.raises(fm.DivergenceError, match="inner step"):
        make(fm.MLP((1, 8, 1)), device="numpy").fit(fm.tasks.Sinusoid(), 0).adapt(
            curve.x_support, curve.y_support, inner_steps=50
        )


def test_the_callers_own_code_keeps_its_state() -> None:
    """A task source and a callback of the user's are called with what the user told NumPy."""
    seen = []

    class Source(fm.tasks.Sinusoid):
        def sample(self, tasks: int, seed: int, step: int = 0) -> fm.Batch:
            seen.append(np.geterr())
            return super().sample(tasks, seed, step)

    with np.errstate(all="raise"):
        learner = fm.MAML(fm.MLP((1, 4, 1)), device="numpy")
        learner.fit(Source(), 2, callback=lambda *_: seen.append(np.geterr())).evaluate(Source(), 2)
        assert len(seen) == 6
        assert all(state == np.geterr() for state in seen)
