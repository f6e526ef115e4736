"""Augmentation of labelled tasks: seeded, the same on any share of a meta-batch, in the episode's hash."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.tasks.shares import share

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(60, 4)) + np.repeat(np.arange(6), 10)[:, None]).astype(np.float32)
Y = np.repeat(np.arange(6), 10)


def noise(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return x + rng.normal(size=x.shape).astype(np.float32)


def tasks(transform: Any = noise, x: np.ndarray = X) -> Any:
    return fm.tasks.from_arrays(x, Y, ways=3, shots=2, queries=4, transform=transform)


def test_it_changes_the_samples_and_nothing_else():
    plain, found = tasks(None).sample(5, 3, 2), tasks().sample(5, 3, 2)
    for name in ("x_support", "x_query"):
        difference = getattr(found, name) - getattr(plain, name)
        assert difference.shape == getattr(plain, name).shape
        assert 0.8 < difference.std() < 1.2
        assert len(np.unique(difference)) > 0.99 * difference.size  # no task has the numbers of another
    np.testing.assert_array_equal(found.y_query, plain.y_query)
    same = tasks(lambda x, rng: x).sample(5, 3, 2)
    np.testing.assert_array_equal(same.x_support, plain.x_support)
    np.testing.assert_array_equal(same.x_query, plain.x_query)


def test_it_gets_a_task_support_samples_first():
    seen = []

    def keep(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        seen.append(x.copy())
        return x

    batch = tasks(keep).sample(2, 0)
    np.testing.assert_array_equal(np.stack(seen), np.concatenate([batch.x_support, batch.x_query], axis=1))


def test_the_seed_decides_and_shares_are_parts_of_the_whole():
    source = tasks()
    whole = source.sample(7, 5, 1)
    np.testing.assert_array_equal(source.sample(7, 5, 1).x_query, whole.x_query)
    np.testing.assert_array_equal(share(source, 7, 2, 5, 5, 1).x_query, whole.x_query[2:5])
    np.testing.assert_array_equal(share(source, 7, 2, 5, 5, 1).x_support, whole.x_support[2:5])
    assert (source.sample(7, 5, 2).x_query != whole.x_query).any()
    assert (source.sample(7, 6, 1).x_query != whole.x_query).any()


def test_it_is_in_the_hash_of_the_episodes():
    learner = fm.ProtoNet(fm.MLP((4, 4)), device="numpy").fit(tasks(), 2)
    plain, one, again = (learner.evaluate(tasks(t), 5) for t in (None, noise, noise))
    assert plain.stream != one.stream == again.stream
    with pytest.raises(ValueError, match="must be of the same episodes"):
        fm.compare(plain, one)
    assert one.confusion().counts.sum() == 60


def test_what_is_given_stays_as_it_is():
    def spoil(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        x[:] = 0
        return x

    source = tasks(spoil)
    before = source.x.copy()
    assert not source.sample(2, 0).x_query.any()
    np.testing.assert_array_equal(source.x, before)


def test_pixels_come_divided_and_views_are_fine():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 5, 5, 3), dtype=np.uint8)
    seen = []

    def mirrored(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        seen.append((x.dtype, float(x.max()) <= 1))
        return x[:, :, ::-1]

    plain, found = tasks(None, pixels).sample(2, 0), tasks(mirrored, pixels).sample(2, 0)
    np.testing.assert_array_equal(found.x_query, plain.x_query[:, :, :, ::-1])
    assert found.x_query.flags.c_contiguous or found.x_query.base is not None
    assert seen == [(np.float32, True)] * 2


def test_transfer_is_pretrained_on_it():
    net = fm.MLP((4, 8, 6))
    zero, plain, replaced = (
        fm.Transfer(net, device="numpy").fit(t, 3)
        for t in (tasks(lambda x, rng: 0 * x), tasks(None), replace(tasks(None), transform=noise))
    )
    weight = net.views(zero.theta)["linear1.weight"]
    np.testing.assert_array_equal(weight, net.views(net.init(0))["linear1.weight"])
    assert (net.views(plain.theta)["linear1.weight"] != net.views(replaced.theta)["linear1.weight"]).any()


def test_a_resumed_training_goes_on_to_the_same_bits(tmp_path):
    net = fm.MLP((4, 8, 3))
    maml = fm.MAML(net, 0.1, device="numpy")
    maml.fit(tasks(), 2, checkpoint=tmp_path / "x")
    resumed = fm.MAML(net, 0.1, device="numpy").fit(tasks(), 5, checkpoint=tmp_path / "x", resume=True)
    np.testing.assert_array_equal(resumed.theta, fm.MAML(net, 0.1, device="numpy").fit(tasks(), 5).theta)


@pytest.mark.parametrize(
    ("transform", "error", "message"),
    [
        (lambda x, rng: x[:, :3], ValueError, r"the shape that it is given, \(18, 4\), not \(18, 3\)"),
        (lambda x, rng: x[:-1], ValueError, r"not \(17, 4\)"),
        (lambda x, rng: x.astype(np.float64), TypeError, "as it is given, not of float64"),
        (lambda x, rng: x + rng.normal(size=x.shape), TypeError, "not of float64"),
        (lambda x, rng: None, TypeError, "not of NoneType"),
        (lambda x, rng: x.tolist(), TypeError, "not of list"),
    ],
)
def test_what_it_must_not_do_is_named(transform, error, message):
    with pytest.raises(error, match=f"transform must give samples of .*{message}"):
        tasks(transform).sample(1, 0)
    with pytest.raises(TypeError, match="transform=3 must be a function"):
        tasks(3)
