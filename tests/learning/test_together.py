"""Fewer samples than the support set, through transductive batch norm: a warning, where and only where it matters."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmeta as fm
from tests.algorithms.learners import LEARNERS

NORMED = fm.Network([fm.Linear(6), fm.BatchNorm(), fm.Tanh(), fm.Linear(3)], 4)
PLAIN = fm.MLP((4, 6, 3))
X = np.random.default_rng(0).standard_normal((120, 4)).astype(np.float32)
TASKS = fm.tasks.from_arrays(X, np.arange(120) % 3, ways=3, shots=2, queries=4)
ATTRIBUTES = fm.tasks.AttributeClasses(shots=2, features=4)
SEVEN = fm.MLP((6, 3))
BATCH = TASKS.sample(2, seed=0)
MESSAGE = "Batch norm is transductive: its statistics are those of the samples that are predicted together"

SUPPORT_SETS: dict[str, Callable[[fm.Network], tuple[Any, int]]] = {
    **{n: lambda net, make=make: adapted(make(net, device="numpy")) for n, make in LEARNERS.items()},
    "Transfer, transductive": lambda net: adapted(fm.Transfer(net, inductive=False, device="numpy")),
    "ZeroShot": lambda net: described(fm.ZeroShot(net, SEVEN, device="numpy"), 5),
    "SideInformation": lambda net: described(fm.SideInformation(net, SEVEN, device="numpy"), 10),
}


def adapted(learner: fm.Learner, *options: Any) -> tuple[Any, int]:
    """A model, and the size of its support set."""
    return learner.fit(TASKS, 1).adapt(BATCH.x_support[0], BATCH.y_support[0]), 6


def described(learner: fm.Learner, size: int) -> tuple[Any, int]:
    batch = ATTRIBUTES.sample(1, seed=0)
    data = (batch.x_support[0], batch.y_support[0]) if size == 10 else ()
    return learner.fit(ATTRIBUTES, 1).adapt(*data, batch.attributes[0]), size


def warned(call: Callable[[], Any]) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    return found


@pytest.mark.parametrize("method", ["predict", "outputs", "probabilities"])
@pytest.mark.parametrize("name", SUPPORT_SETS)
def test_fewer_samples_than_the_support_set_warn(name: str, method: str) -> None:
    model, size = SUPPORT_SETS[name](NORMED)
    for count in (1, size - 1):
        (told,) = warned(lambda count=count: getattr(model, method)(X[:count]))
        assert str(told.message).startswith(MESSAGE)
        assert told.filename == __file__  # the line of the caller, not one of fastmeta
    assert not warned(lambda: getattr(model, method)(X[:size]))


@pytest.mark.parametrize("name", SUPPORT_SETS)
def test_without_batch_norm_nothing_warns(name: str) -> None:
    model, _ = SUPPORT_SETS[name](PLAIN) if name != "MAML++" else (None, 0)
    assert model is None or not warned(lambda: model.predict(X[:1]))


def test_several_tasks_at_once() -> None:
    model = LEARNERS["MAML"](NORMED, device="numpy").fit(TASKS, 1).adapt(BATCH.x_support, BATCH.y_support)
    assert warned(lambda: model.predict(BATCH.x_query[:, :5]))
    assert not warned(lambda: model.predict(BATCH.x_query[:, :6]))


@pytest.mark.parametrize("mode", ["support", "frozen"])
def test_other_statistics_do_not_warn(mode: str) -> None:
    learner = LEARNERS["MAML"](NORMED, device="numpy").fit(TASKS, 1)
    model = learner.adapt(BATCH.x_support[0], BATCH.y_support[0], batch_norm=mode)
    assert not warned(lambda: model.predict(X[:1]))
    running = fm.MAMLPlusPlus(NORMED, 0.1, 2, running_statistics=True, device="numpy").fit(TASKS, 1)
    assert not warned(
        lambda: running.adapt(*(a[0] for a in (BATCH.x_support, BATCH.y_support)), batch_norm="running").predict(X[:1])
    )


def test_inductive_transfer_and_prototypes_do_not_warn() -> None:
    for learner in (fm.Transfer(NORMED, device="numpy"), fm.ProtoNet(NORMED, device="numpy")):
        model, _ = adapted(learner)
        assert not warned(lambda model=model: model.predict(X[:1]))


@pytest.mark.parametrize("name", [*LEARNERS, "Transfer"])
def test_scores_do_not_warn_they_name_their_mode(name: str) -> None:
    few = fm.tasks.from_arrays(X, np.arange(120) % 3, ways=3, shots=5, queries=1)
    learner = (LEARNERS | {"Transfer": lambda net, **o: fm.Transfer(net, inductive=False, **o)})[name](
        NORMED, device="numpy"
    )
    learner.fit(TASKS, 1)
    assert not warned(lambda: learner.evaluate(few, 3))
    assert learner.evaluate(few, 3).batch_norm == "transductive"


def test_a_loaded_learner_warns_and_a_loop_is_told_once(tmp_path: Path) -> None:
    LEARNERS["MAML"](NORMED, device="numpy").fit(TASKS, 1).save(tmp_path / "learner.safetensors")
    model = fm.load(tmp_path / "learner.safetensors").adapt(BATCH.x_support[0], BATCH.y_support[0])
    with warnings.catch_warnings(record=True) as found:
        warnings.resetwarnings()  # what Python does by itself: once a line
        for x in X[:20]:
            model.predict(x[None])
    assert len(found) == 1
