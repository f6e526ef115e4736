"""Classes with attributes: their means and deviations, and the gate that is best for them."""

from __future__ import annotations

import numpy as np
import pytest

import fastmeta as fm


@pytest.mark.parametrize("shots", [1, 3])
def test_samples_have_the_moments_that_the_best_map_and_gate_assume(shots):
    """From a W to the centre: spread; from the centre to a sample: noise; best_gate is what least squares finds."""
    tasks = fm.tasks.AttributeClasses(shots=shots, queries=8, spread=0.7, noise=1.2, map_seed=4)
    batch = tasks.sample(1000, seed=0)
    expected = batch.attributes @ tasks.best_map  # (T, K, F)
    support, query = (x.reshape(1000, 5, -1, 10) for x in (batch.x_support, batch.x_query))
    assert batch.attributes.std() == pytest.approx(1, rel=0.01)
    assert query.std(axis=2, ddof=1).mean() == pytest.approx(1.2 * 0.965, rel=0.01)  # of a deviation from 8 samples
    away, other = support.mean(axis=2) - expected, query.mean(axis=2) - expected
    assert (away * other).mean() == pytest.approx(0.7**2, rel=0.05)  # their noises are independent
    assert (away * other).sum() / (away * away).sum() == pytest.approx(tasks.best_gate, rel=0.04)
    np.testing.assert_array_equal(batch.y_query[0], np.repeat(np.arange(5), 8))


def test_the_map_is_the_same_in_all_tasks_and_the_tasks_are_not():
    tasks = fm.tasks.AttributeClasses(map_seed=1)
    assert np.array_equal(tasks.best_map, fm.tasks.AttributeClasses(map_seed=1, ways=7).best_map)
    assert (tasks.best_map != fm.tasks.AttributeClasses(map_seed=2).best_map).all()
    one, again, other = (tasks.sample(2, seed=3, step=step) for step in (0, 0, 1))
    assert np.array_equal(one.x_query, again.x_query)
    assert (one.attributes != other.attributes).all()
