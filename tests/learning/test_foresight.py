"""Updates that are computed several at once are those of one by one, whatever happens between two iterations."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.learning.foresight import Foresight
from fastmeta.tasks.ahead import MOST, Ahead

ITERATIONS = 140
TASKS = fm.tasks.Sinusoid(shots=4, queries=6)


@pytest.fixture(autouse=True)
def _any_time(monkeypatch):
    """However slow the machine is, so many are computed at once as there are."""
    monkeypatch.setattr("fastmeta.learning.foresight.SECONDS", 1e9)


def fitted(kind: Any = fm.MAML, dtype: str = "float32", optimizer: Any = None, **options: Any) -> Any:
    net = fm.MLP((1, 12, 12, 1), activation="tanh")
    arguments = {"iterations": ITERATIONS, "tasks_per_step": 9, "theta": net.init(3, dtype=dtype), "seed": 2}
    return kind(net, 0.05, 2).fit(TASKS, optimizer=optimizer or fm.Adam(3e-3), **arguments | options)


def one_by_one(monkeypatch: Any, *arguments: Any, **options: Any) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(Foresight, "_look", lambda *_: False)
        return fitted(*arguments, **options)


def equal(found: Any, expected: Any) -> None:
    assert found.training.step == expected.training.step
    np.testing.assert_array_equal(found.history["loss"], expected.history["loss"])
    assert np.isfinite(found.history["seconds"]).all()
    for name, values in expected.parameters.items():
        np.testing.assert_array_equal(found.parameters[name], values, strict=True)
        for one, other in zip(*(m.training.moments[name].moments for m in (found, expected)), strict=True):
            np.testing.assert_array_equal(one, other, strict=True)
        assert found.training.moments[name].step == expected.training.moments[name].step


def ahead_of(monkeypatch: Any) -> list[int]:
    """How many updates each look finds."""
    counts, look = [], Foresight._look

    def counted(self: Foresight, *arguments: Any) -> bool:
        found = look(self, *arguments)
        counts.append(len(self.losses) if found else 0)
        return found

    monkeypatch.setattr(Foresight, "_look", counted)
    return counts


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", [fm.MAML, fm.FOMAML, fm.ANIL])
def test_the_bits_are_those_of_one_by_one(monkeypatch, kind, dtype):
    optimizer = fm.Adam(fm.CosineSchedule(1e-2, 1e-4, ITERATIONS))
    expected = one_by_one(monkeypatch, kind, dtype, optimizer)
    counts = ahead_of(monkeypatch)
    equal(fitted(kind, dtype, optimizer), expected)
    assert counts == [0, 64, 64, 11]


@pytest.mark.parametrize("optimizer", [fm.SGD(0.01), fm.Adam(clip_norm=1.0), fm.Adam(1e-3, clip_value=0.5)], ids=repr)
def test_other_optimizers_go_one_by_one(monkeypatch, optimizer):
    counts = ahead_of(monkeypatch)
    assert np.isfinite(fitted(optimizer=optimizer).history["loss"]).all()
    assert not any(counts)


def test_learned_rates_go_one_by_one(monkeypatch):
    counts = ahead_of(monkeypatch)
    learner = fm.MAML(fm.MLP((1, 5, 1)), 0.05, learn_inner_lr=True).fit(TASKS, 20, 4)
    assert learner.rates != 0.05
    assert not any(counts)


def shrink(learner: Any) -> None:
    learner.training.parameters["theta"][:] *= np.float32(0.9)


def faster(learner: Any) -> None:
    learner.inner_lr = 0.1


@pytest.mark.parametrize("change", [shrink, faster])
def test_what_a_callback_changes_counts_from_the_next_iteration_on(monkeypatch, change):
    def changed() -> Any:
        learner = fm.MAML(fm.MLP((1, 8, 1)), 0.05)
        callback = lambda step, loss: change(learner) if step in (7, 20, 21) else None  # noqa: E731
        return learner.fit(TASKS, ITERATIONS, 9, callback=callback)

    with monkeypatch.context() as patch:
        patch.setattr(Foresight, "_look", lambda *_: False)
        expected = changed()
    counts = ahead_of(monkeypatch)
    equal(changed(), expected)
    assert sum(counts) > ITERATIONS


def test_callbacks_see_each_iteration(monkeypatch):
    def seen(look: Any) -> list[Any]:
        learner, found = fm.MAML(fm.MLP((1, 8, 1)), 0.05), []
        with monkeypatch.context() as patch:
            if look:
                patch.setattr(Foresight, "_look", look)
            learner.fit(TASKS, 20, 9, callback=lambda i, loss: found.append((i, loss, learner.theta.tobytes())))
        return found

    assert seen(None) == seen(lambda *_: False)


def test_a_fit_goes_on_from_where_an_interruption_left_it(monkeypatch, tmp_path):
    def stop(step: int, loss: float) -> None:
        if step == 12:
            raise KeyboardInterrupt

    path = tmp_path / "stopped.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fitted(checkpoint=path, callback=stop)
    assert fm.load(path).training.step == 12
    net = fm.MLP((1, 12, 12, 1), activation="tanh")
    on = fm.MAML(net, 0.05, 2).fit(TASKS, ITERATIONS, 9, fm.Adam(3e-3), 2, checkpoint=path, resume=True)
    equal(on, one_by_one(monkeypatch))


@pytest.mark.parametrize(("inner_lr", "rate"), [(0.01, 0.3), (0.01, 0.5), (0.03, 0.2), (0.03, 0.3), (0.03, 0.5)])
def test_a_divergence_is_told_at_its_iteration(monkeypatch, inner_lr, rate):
    def message(look: Any) -> tuple[str, int]:
        learner = fm.MAML(fm.MLP((1, 30, 30, 1)), inner_lr, 3)
        with monkeypatch.context() as patch:
            if look:
                patch.setattr(Foresight, "_look", look)
            with pytest.raises(fm.DivergenceError) as told:
                learner.fit(TASKS, 60, 9, fm.Adam(rate))
        return str(told.value), learner.training.step

    told, step = message(None)
    assert (told, step) == message(lambda *_: False)
    assert step > 0, "this fit should diverge in its course"


def test_batches_that_are_wrong_are_told_of_at_their_iteration(monkeypatch):
    class Broken(fm.tasks.Sinusoid):
        def sample(self, tasks: int, seed: int, step: int = 0) -> fm.Batch:
            return self.several(tasks, seed, step, 1)

        def several(self, tasks: int, seed: int, step: int, count: int) -> fm.Batch:
            several = super().several(tasks, seed, step, count)
            if step <= 10 < step + count:
                several.x_query[tasks * (10 - step)] = np.nan
            return several

    learner = fm.MAML(fm.MLP((1, 8, 1)), 0.05)
    with pytest.raises(ValueError, match="x_query must be finite"):
        learner.fit(Broken(), 20, 9)
    assert learner.training.step == 10


def test_a_source_that_is_not_drawn_ahead_is_not_looked_at():
    assert Foresight().update(None, TASKS, None) is None
    assert len(Ahead(TASKS, 9).ready(3, 0, 2, 5)) == 3


@pytest.mark.parametrize(("callback", "most"), [(None, 20), (lambda step, loss: None, 80)])
def test_an_update_makes_few_calls_in_python(callback, most):
    """A bar that no load moves: 472 calls before anything was drawn or computed ahead; 17, and 71, when it was set."""
    learner, counted = fm.MAML(fm.MLP((1, 40, 40, 1)), 0.01), 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    def of(iterations: int) -> int:
        nonlocal counted
        counted, before = 0, sys.getprofile()
        sys.setprofile(count)
        try:
            learner.fit(TASKS, iterations, 25, fm.Adam(1e-3), callback=callback)
        finally:
            sys.setprofile(before)
        return counted

    learner.fit(TASKS, 1 + MOST, 25, fm.Adam(1e-3))
    assert (of(1 + MOST * 3) - of(1 + MOST)) / (MOST * 2) <= most
