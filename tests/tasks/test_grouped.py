"""Personalisation tasks: one group a task, classes that mean the same in all, support and query kept apart."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.tasks import from_groups


def people(each: int = 6, members: tuple[int, ...] = (3, 5, 8), classes: int = 2) -> dict[str, np.ndarray]:
    """Sample i is (i, class, group): `each` a class and group, in mixed order."""
    groups, y = (a.ravel() for a in np.meshgrid(members, np.arange(classes) * 10, indexing="ij"))
    groups, y = np.tile(groups, each), np.tile(y, each)
    return {"x": np.stack([np.arange(len(y)), y, groups], axis=1).astype(float), "y": y, "groups": groups}


def test_a_task_is_one_group_and_labels_keep_their_meaning():
    tasks = from_groups(**people(), shots=2, queries=3)
    batch = tasks.sample(300, seed=0)
    assert batch.x_support.shape == (300, 4, 3)
    assert batch.x_query.shape == (300, 6, 3)
    owners = np.concatenate([batch.x_support[..., 2], batch.x_query[..., 2]], axis=1)
    assert (owners == owners[:, :1]).all()
    counts = np.unique(owners[:, 0], return_counts=True)
    np.testing.assert_array_equal(counts[0], [3, 5, 8])
    assert counts[1].min() > 70
    for x, y in ((batch.x_support, batch.y_support), (batch.x_query, batch.y_query)):
        np.testing.assert_array_equal(x[..., 1], 10 * y)
    for t in range(300):
        drawn = np.concatenate([batch.x_support[t, :, 0], batch.x_query[t, :, 0]])
        assert len(set(drawn)) == 10


def test_support_and_query_samples_can_be_kept_apart():
    data = people(each=6)
    early = np.arange(36) < 12
    batch = from_groups(**data, shots=2, queries=4, support=early).sample(200, seed=1)
    assert set(batch.x_support[..., 0].ravel()) == set(range(12))
    assert set(batch.x_query[..., 0].ravel()) == set(range(12, 36))


def test_the_same_seed_and_step_draw_the_same_task():
    tasks = from_groups(**people(), shots=1, queries=2)
    one, again, other = (tasks.sample(4, seed=2, step=step).x_query for step in (5, 5, 6))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_some_groups_alone():
    tasks = from_groups(**people(), shots=1, queries=2, support=np.arange(36) % 4 < 2)
    some = tasks.of([3, 8])
    np.testing.assert_array_equal(some.members, [3, 8])
    batch = some.sample(50, seed=0)
    assert set(batch.x_query[..., 2].ravel()) == {3, 8}
    assert (batch.x_support[..., 0] % 4 < 2).all()
    assert (batch.x_query[..., 0] % 4 >= 2).all()
    with pytest.raises(ValueError, match=r"members=\[4\] must be among \[3, 5, 8\]; \[4\] are not"):
        tasks.of(4)


def test_transfer_pretrains_on_groups_too():
    rng = np.random.default_rng(0)
    y, who = np.arange(400) % 4, np.arange(400) // 80
    x = rng.normal(size=(4, 5))[y] + 0.1 * rng.normal(size=(400, 5)) + 0.3 * rng.normal(size=(5, 5))[who]
    tasks = from_groups(x, y, who, shots=2, queries=5)
    learner = fm.Transfer(fm.MLP((5, 16, 4), "tanh"), device="numpy").fit(tasks, 100, optimizer=fm.Adam(1e-2))
    assert learner.evaluate(tasks, 20).mean > 0.9


def riders(outputs: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, targets and groups: 30 people with 30 samples each, whose targets are their own function of the input."""
    rng = np.random.default_rng(0)
    who, x = np.repeat(np.arange(30), 30), rng.normal(size=(900, 2))
    own = rng.normal(size=(30, 2, outputs))
    return x, np.einsum("ni,nio->no", np.tanh(x), own[who]), who


@pytest.mark.parametrize(
    "kind", [fm.MAML, fm.FOMAML, fm.ANIL, fm.BOIL, fm.MetaSGD, fm.MAMLPlusPlus, fm.Reptile, fm.iMAML]
)
def test_a_regression_from_training_to_a_new_person(kind, tmp_path):
    x, y, who = riders(2)
    tasks = from_groups(x, y, who, shots=5, queries=10)
    known, new = tasks.of(np.arange(20)), tasks.of(np.arange(20, 30))
    assert tasks.sample(3, 0).y_query.shape == (3, 10, 2)
    assert not len(tasks.classes)
    optimizer = fm.SGD(0.5) if kind is fm.Reptile else fm.Adam(3e-3)
    learner = kind(fm.MLP((2, 16, 2), "tanh"), 0.1, 3, device="numpy").fit(known, 60, 5, optimizer=optimizer)
    before, after = learner.evaluate(new, 60, inner_steps=[0, 3]).values()
    assert after.measure == "mse"
    assert (before.values - after.values).mean() > 0.1 * before.values.mean()  # of about 1

    path = tmp_path / "riders.safetensors"
    learner.save(path)
    person = np.flatnonzero(who == 25)
    support = x[person[:5]], y[person[:5]]
    model, again = (one.adapt(*support) for one in (learner, fm.load(path, device="numpy")))
    found = again.predict(x[person[5:]])
    assert found.shape == (25, 2)
    assert np.array_equal(found, model.predict(x[person[5:]]))
    unadapted = learner.adapt(*support, inner_steps=0).predict(x[person[5:]])
    assert np.square(found - y[person[5:]]).mean() < np.square(unadapted - y[person[5:]]).mean()


def test_targets_of_one_output_need_no_second_axis():
    x, y, who = riders()
    flat, upright = (from_groups(x, values, who, shots=3, queries=4) for values in (y[:, 0], y))
    assert np.array_equal(flat.sample(5, 1).y_query, upright.sample(5, 1).y_query)
    learner = fm.MAML(fm.MLP((2, 4, 1)), 0.1, device="numpy").fit(flat, 1)
    with pytest.raises(
        ValueError, match=r"y of shape \(3,\) must be \(3, 1\).* Targets of one output are y\[..., None\]"
    ):
        learner.adapt(x[:3], y[:3, 0])


def test_a_regression_is_no_matter_of_classes():
    x, y, who = riders()
    tasks = from_groups(x, y, who, shots=3, queries=4)
    with pytest.raises(ValueError, match=r"tasks must have classes; these have float targets. Use fm\.MAML"):
        fm.Transfer(fm.MLP((2, 4, 1)), device="numpy").fit(tasks, 1)
    with pytest.raises(ValueError, match="ProtoNet needs tasks with integer labels"):
        fm.ProtoNet(fm.MLP((2, 4)), device="numpy").fit(tasks, 1)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"groups": np.zeros(36)}, ValueError, "groups of shape .* dtype float64 must be whole numbers"),
        ({"groups": np.zeros(35, int)}, ValueError, r"groups of shape \(35,\)"),
        ({"support": np.zeros(36)}, ValueError, "support of shape .* must be True or False"),
        ({"shots": 5}, ValueError, r"shots \+ queries=7 must be at most 6, .* of class 0 in group 3"),
        ({"support": np.arange(36) < 6}, ValueError, "shots=2 must be at most 1, .* of class 0 in group 3"),
        ({"support": np.arange(36) >= 6, "queries": 2}, ValueError, "queries=2 must be at most 1"),
        ({"queries": 0}, ValueError, "queries=0 must be at least 1"),
        ({"y": np.full((36, 1), "a")}, ValueError, r"y of shape \(36, 1\) must be \(n,\)"),
    ],
)
def test_bad_input(changes, error, message):
    with pytest.raises(error, match=message):
        from_groups(**{**people(), "shots": 2, "queries": 2} | changes)


def test_a_group_that_lacks_a_class_is_named():
    data = people()
    rows = (data["groups"] != 5) | (data["y"] != 10)
    with pytest.raises(ValueError, match=r"must be at most 0, .* of class 10 in group 5\. Lower it, or leave"):
        from_groups(**{name: array[rows] for name, array in data.items()}, shots=1, queries=1)


def recordings() -> dict[str, Any]:
    """Like seglearn's: 3 people, 2 arms, 7 exercises; the first channel counts the samples."""
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {"X": [], "y": [], "subject": [], "side": []}
    for person in (1, 2, 3):
        for side in (0.0, 1.0):
            for exercise in range(7):
                length = int(rng.integers(950, 1300))
                data = rng.normal(3.0, 2.0, (length, 6))
                data[:, 0] = np.arange(length)
                for name, value in zip(found, (data, exercise, float(person), side), strict=True):
                    found[name].append(value)
    return found


@pytest.fixture
def seglearn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of that name with made-up recordings."""
    module = ModuleType("seglearn.datasets")
    module.load_watch = recordings  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "seglearn", ModuleType("seglearn"))
    monkeypatch.setitem(sys.modules, "seglearn.datasets", module)


def test_watch_tasks_are_arms_of_people_and_windows_do_not_overlap(seglearn):
    watch = fm.tasks.Watch(test=(2,), shots=3, queries=4)
    np.testing.assert_array_equal(watch.train.members, [2, 3, 6, 7])
    np.testing.assert_array_equal(watch.test.members, [4, 5])
    np.testing.assert_array_equal(watch.test.classes, np.arange(7))
    assert watch.test.sample(2, 0).x_support.shape == (2, 21, 100, 1, 6)
    seen = watch.train.x.reshape(-1, 6)
    np.testing.assert_allclose(seen.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(seen.std(axis=0), 1, rtol=1e-4)
    tasks = watch.test
    assert tasks.support is not None
    clock = tasks.x[:, :, 0, 0]
    for group in tasks.members:
        for exercise in tasks.classes:
            own = (tasks.groups == group) & (tasks.y == exercise)
            assert clock[own & tasks.support].max() < clock[own & ~tasks.support].min()


def test_watch_people_must_be_known(seglearn):
    for test in ((), (4,), (1, 2, 3)):
        with pytest.raises(ValueError, match=r"must be some, not all, of the people \[1, 2, 3\]"):
            fm.tasks.Watch(test=test)


def test_without_seglearn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "seglearn", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "fastmeta\[sensors\]"'):
        fm.tasks.Watch()


def test_the_real_recordings():
    pytest.importorskip("seglearn", reason="seglearn is an optional extra", exc_type=ImportError)
    watch = fm.tasks.Watch(shots=5, queries=10)
    assert len(watch.train.members) == 16
    assert len(watch.test.members) == 4
    assert watch.train.sample(2, 0).x_query.shape == (2, 70, 100, 1, 6)
