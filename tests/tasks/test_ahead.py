"""Meta-batches that are drawn several at once are those of `sample`, and of a fit."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.tasks.ahead import BYTES, MOST, Ahead, ahead
from fastmeta.tasks.episode import stream
from fastmeta.tasks.shares import piece
from fastmeta.tasks.streams import streams


def equal(found: fm.Batch, expected: fm.Batch) -> None:
    for field in fields(fm.Batch):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        assert (a is None) == (b is None)
        if b is not None:
            np.testing.assert_array_equal(a, b, strict=True)
            assert a.flags.c_contiguous


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**32, 10**20])
def test_streams_are_those_of_numpys_own_reading(seed):
    for step in (0, 7, 2**32 - 1, 2**32):
        expected = np.random.default_rng((seed, step, 0x7A5C)).random(5)
        np.testing.assert_array_equal(stream(seed, step).random(5), expected)


@pytest.mark.parametrize("seed", [0, 77, 2**32 - 1, 2**32])
@pytest.mark.parametrize("step", [0, 500, 2**32 - 17, 2**32 - 16, 2**32 - 3, 2**40])
def test_streams_of_several_steps_are_those_of_each(seed, step):
    for i, rng in enumerate(streams(seed, step, 16)):
        np.testing.assert_array_equal(rng.random(5), stream(seed, step + i).random(5))


@pytest.mark.parametrize(("seed", "step"), [(-1, 0), (0, -1), (0.5, 0), (0, True)])
def test_streams_ask_for_whole_numbers(seed, step):
    with pytest.raises((TypeError, ValueError), match="must be"):
        list(streams(seed, step, 2))


@pytest.mark.parametrize("tasks", [1, 25, 130])
def test_several_curves_are_those_of_each_step(tasks):
    source = fm.tasks.Sinusoid(shots=3, queries=5, amplitude=(1, 2), x_range=(0, 7))
    several = source.several(tasks, 3, 2**32 - 4, 9)
    assert len(several) == 9 * tasks
    for i in range(9):
        equal(piece(several, i * tasks, (i + 1) * tasks), source.sample(tasks, 3, 2**32 - 4 + i))


@dataclass(frozen=True)
class Counted(fm.tasks.Sinusoid):
    """Notes what it is asked for."""

    asked: Any = ()

    def sample(self, tasks: int, seed: int, step: int = 0) -> fm.Batch:
        return super().sample(tasks, seed, step)

    def several(self, tasks: int, seed: int, step: int, count: int) -> fm.Batch:
        self.asked.append((step, count))
        return super().several(tasks, seed, step, count)


def test_steps_are_drawn_once_and_none_behind_the_end():
    source = Counted(asked=[])
    end = 2 * MOST + 8
    drawn = ahead(source, end)
    for step in range(end):
        equal(drawn.sample(25, 0, step), source.sample(25, 0, step))
    assert source.asked == [(0, 1), (1, MOST), (1 + MOST, MOST), (1 + 2 * MOST, 7)]


def test_any_order_gives_the_same_batches():
    source = Counted(asked=[])
    drawn = Ahead(source, 30)
    for tasks, seed, step in ((5, 0, 3), (5, 0, 4), (5, 0, 3), (5, 1, 4), (6, 1, 4), (5, 0, 35)):
        equal(drawn.sample(tasks, seed, step), source.sample(tasks, seed, step))


def test_large_batches_are_drawn_one_by_one():
    source = Counted(asked=[])
    drawn = Ahead(source, 9)
    for step in range(3):
        assert drawn.sample(4000, 0, step).nbytes > BYTES
    assert source.asked == [(0, 1), (1, 1), (2, 1)]


class Shifted(fm.tasks.Sinusoid):
    """Draws its own way, one batch at a time."""

    def sample(self, tasks: int, seed: int, step: int = 0) -> fm.Batch:
        batch = super().sample(tasks, seed, step)
        return replace(batch, y_query=batch.y_query + np.float32(1))


def test_a_class_that_draws_its_own_way_is_asked_itself():
    source = Shifted()
    assert ahead(source, 40) is source
    assert ahead(fm.tasks.AttributeClasses(), 40).__class__ is fm.tasks.AttributeClasses


def test_a_fit_is_that_of_batches_drawn_one_by_one():
    class Each(fm.tasks.Sinusoid):
        def sample(self, tasks: int, seed: int, step: int = 0) -> fm.Batch:
            return super().sample(tasks, seed, step)

    fits = [fm.MAML(fm.MLP((1, 8, 1)), 0.01).fit(source, 40, 5) for source in (Each(), fm.tasks.Sinusoid())]
    assert all(np.array_equal(fits[0].history[name], fits[1].history[name]) for name in ("loss",))
    np.testing.assert_array_equal(fits[0].theta, fits[1].theta)
