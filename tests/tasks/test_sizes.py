"""Shots and queries as ranges, small classes refused, left out or used, regressions of groups."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastmeta as fm
from fastmeta.algorithms.transfer.minibatches import Minibatches
from fastmeta.tasks import from_arrays, from_groups

SIZES = (12, 9, 5, 2, 12)  # samples of the classes 0 .. 4


def data(sizes: tuple[int, ...] = SIZES) -> tuple[np.ndarray, np.ndarray]:
    """Samples (number, class)."""
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    return np.stack([np.arange(len(y)), y], axis=1).astype(np.float32), y


def check_episode(batch: fm.Batch, ways: int) -> tuple[int, int]:
    """Shots and queries of a proper batch: as many samples of each class, all different, of the class they say."""
    shots, queries = batch.y_support.shape[1] // ways, batch.y_query.shape[1] // ways
    for t in range(len(batch)):
        np.testing.assert_array_equal(batch.y_support[t], np.repeat(np.arange(ways), shots))
        np.testing.assert_array_equal(batch.y_query[t], np.repeat(np.arange(ways), queries))
        classes = batch.x_support[t, ::shots, 1]
        np.testing.assert_array_equal(batch.x_query[t, :, 1], classes[batch.y_query[t]])
        numbers = np.concatenate([batch.x_support[t, :, 0], batch.x_query[t, :, 0]])
        assert len(set(numbers)) == ways * (shots + queries)
    return shots, queries


def test_a_range_of_shots_and_queries() -> None:
    tasks = from_arrays(*data((20, 20, 20)), ways=2, shots=(1, 3), queries=(2, 4))
    seen = [check_episode(tasks.sample(3, seed=0, step=step), 2) for step in range(180)]
    counts = {pair: seen.count(pair) for pair in set(seen)}
    assert set(counts) == {(s, q) for s in (1, 2, 3) for q in (2, 3, 4)}
    assert np.square(np.array(list(counts.values())) - 20).sum() / 20 < 26.1  # chi-squared, 8 degrees, p < 0.001
    again = tasks.sample(3, seed=0, step=7)
    np.testing.assert_array_equal(again.x_query, tasks.sample(3, seed=0, step=7).x_query)


def test_a_range_is_drawn_within_what_the_classes_have() -> None:
    tasks = from_arrays(*data((9, 9, 5)), ways=2, shots=(1, 6), queries=(2, 8))
    for step in range(60):
        batch = tasks.sample(1, seed=0, step=step)
        fewest = 5 if 2 in batch.x_support[..., 1] else 9
        shots, queries = check_episode(batch, 2)
        assert (1 <= shots <= 6, 2 <= queries <= 8, shots + queries <= fewest) == (True, True, True)


def test_whole_numbers_draw_what_they_always_did() -> None:
    x, y = data((12, 12, 12))
    plain, used = (from_arrays(x, y, ways=2, shots=2, queries=3, small_classes=kind) for kind in ("refuse", "use"))
    for step in range(5):
        a, b = (tasks.sample(4, seed=1, step=step) for tasks in (plain, used))
        np.testing.assert_array_equal(a.x_query, b.x_query)
        np.testing.assert_array_equal(a.x_support, b.x_support)


def test_small_classes_are_refused_left_out_or_used() -> None:
    x, y = data()
    with pytest.raises(ValueError, match=r"queries=9 must be at most 2, the number of samples of class 3 \(1 others"):
        from_arrays(x, y, ways=2, shots=2, queries=7)
    skipped = from_arrays(x, y, ways=2, shots=2, queries=7, small_classes="skip")
    assert (skipped.left_out, skipped.classes.tolist(), skipped.fewest) == ((2, 3), [0, 1, 4], 9)
    drawn = skipped.sample(200, seed=0)
    assert check_episode(drawn, 2) == (2, 7)
    assert set(drawn.x_support[..., 1].ravel()) == {0, 1, 4}
    used = from_arrays(x, y, ways=2, shots=2, queries=7, small_classes="use")
    assert used.left_out == (3,)  # of two samples, which leaves no query
    sizes = {}
    for step in range(60):
        batch = used.sample(1, seed=0, step=step)
        sizes[2 in batch.x_support[..., 1]] = check_episode(batch, 2)
    assert sizes == {True: (2, 3), False: (2, 7)}


def test_too_few_classes_are_left() -> None:
    with pytest.raises(ValueError, match=r"ways=4 must be at most 3, .* without 2, 3, which are too small"):
        from_arrays(*data(), ways=4, shots=2, queries=7, small_classes="skip")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"shots": (3, 1)}, ValueError, r"shots=\(3, 1\) must have lowest <= highest"),
        ({"shots": (1, 2, 3)}, ValueError, r"must be a whole number or two, \(lowest, highest\)"),
        ({"queries": (0, 3)}, ValueError, r"queries\[0\]=0 must be at least 1"),
        ({"shots": range(1, 3)}, TypeError, r"must be a whole number. Or give a range as a pair, \(lowest, highest\)"),
        ({"queries": (1, 2.5)}, TypeError, r"queries\[1\]=2.5 must be a whole number"),
        ({"small_classes": "drop"}, ValueError, 'small_classes="drop" must be one of "refuse", "skip", "use"'),
    ],
)
def test_bad_sizes_are_named(changes: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        from_arrays(*data(), **({"ways": 2, "shots": 1, "queries": 1} | changes))


def test_transfer_learns_the_classes_that_are_left() -> None:
    x, y = data()
    tasks = from_arrays(x, y, ways=2, shots=2, queries=7, small_classes="skip")
    learner = fm.Transfer(fm.MLP((2, 4, 3)), "centroid", device="numpy").fit(tasks, 2)
    drawn = Minibatches(tasks, 500).sample(1, seed=0)
    np.testing.assert_array_equal(tasks.classes[drawn.y_query[0]], drawn.x_query[0, :, 1])
    assert learner.evaluate(tasks, 4).measure == "accuracy"


def test_episodes_of_a_range_can_be_trained_on_and_evaluated() -> None:
    tasks = from_arrays(*data((20, 20, 20)), ways=2, shots=(1, 3), queries=(2, 4))
    learner = fm.MAML(fm.MLP((2, 6, 2)), device="numpy").fit(tasks, 6, tasks_per_step=3)
    together, alone = (learner.evaluate(tasks, 12, tasks_per_step=chunk) for chunk in (12, 1))
    np.testing.assert_array_equal(together.values, alone.values)


@pytest.mark.parametrize("kind", ["skip", "use"])
def test_images_name_the_classes_that_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("FASTMETA_CACHE", str(tmp_path / "cache"))
    for part in ("train", "val", "test"):
        for name, count in (("cat", 6), ("dog", 6), ("lynx", 2), ("yak", 1)):
            folder = tmp_path / "data" / part / f"{part}-{name}"
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(np.full((8, 8, 3), 10 * i, np.uint8)).save(folder / f"{i}.png")
    sizes = {"ways": 2, "shots": 1, "queries": 4, "image_size": 8}
    with pytest.raises(ValueError, match='must be at most 1, the number of samples of class "train-yak"'):
        fm.tasks.Images(tmp_path / "data", **sizes).train  # noqa: B018
    tasks = fm.tasks.Images(tmp_path / "data", **sizes, small_classes=kind).train
    assert tasks.left_out == (("train-lynx", "train-yak") if kind == "skip" else ("train-yak",))
    ranged = fm.tasks.Images(tmp_path / "data", 2, (1, 2), (1, 4), 8, small_classes=kind).validation
    assert len({ranged.sample(1, seed=0, step=i).y_query.shape for i in range(20)}) > 2


WHO = np.repeat(np.arange(4), 10)


def test_targets_of_a_regression_are_the_groups_own() -> None:
    rng = np.random.default_rng(0)
    x = np.stack([np.arange(40.0), WHO], axis=1)
    for y in (x[:, 0] / 8, rng.random((40, 3)), (x[:, 0] / 8).astype(np.float32)):
        tasks = from_groups(x, y, WHO, shots=3, queries=5)
        batch = tasks.sample(20, seed=0)
        outputs = 1 if y.ndim == 1 else 3
        assert batch.y_support.shape == (20, 3, outputs)
        assert batch.y_query.shape == (20, 5, outputs)
        for t in range(20):
            rows = np.concatenate([batch.x_support[t], batch.x_query[t]])
            assert len(set(rows[:, 1])) == 1
            assert len(set(rows[:, 0])) == 8
            values = np.concatenate([batch.y_support[t], batch.y_query[t]])
            np.testing.assert_array_equal(values, y.reshape(40, -1)[rows[:, 0].astype(int)].astype(np.float32))
    support = np.arange(40) % 10 < 4
    batch = from_groups(x, y, WHO, shots=3, queries=5, support=support).sample(20, seed=0)
    assert support[batch.x_support[..., 0].astype(int)].all()
    assert not support[batch.x_query[..., 0].astype(int)].any()


def test_a_regression_of_groups_is_learned() -> None:
    rng = np.random.default_rng(0)
    slopes = rng.normal(size=12)
    who, x = np.repeat(np.arange(12), 30), rng.normal(size=(360, 1))
    tasks = from_groups(x, slopes[who] * x[:, 0], who, shots=5, queries=10)
    learner = fm.MAML(fm.MLP((1, 16, 1), "tanh"), 0.1, 3, device="numpy").fit(tasks, 150, 8, fm.Adam(1e-2))
    scores = learner.evaluate(tasks, 40, inner_steps=[0, 3])
    assert scores[3].measure == "mse"
    assert scores[3].mean < 0.5 * scores[0].mean
    with pytest.raises(ValueError, match="tasks must have classes; these have float targets"):
        fm.Transfer(fm.MLP((1, 4, 1)), device="numpy").fit(tasks, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"y": np.zeros((40, 2, 2))},
            r"y of shape \(40, 2, 2\) and dtype float64 must be targets \(n,\) or \(n, outputs\)",
        ),
        ({"y": np.zeros(39)}, r"y of shape \(39,\)"),
        ({"y": np.full(40, np.nan)}, r"y must be finite; 40 of 40"),
        (
            {"y": np.zeros(40), "shots": 9, "queries": 2},
            r"queries=11 must be at most 10, .* samples in group 0. Lower it",
        ),
    ],
)
def test_bad_targets_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_groups(**({"x": np.zeros((40, 2)), "groups": WHO, "queries": 5} | changes))


def test_from_arrays_says_where_regression_is() -> None:
    with pytest.raises(TypeError, match=r"targets of a regression go to fm\.tasks\.from_groups"):
        from_arrays(np.zeros((40, 2)), np.zeros(40))


def test_small_groups_are_refused_left_out_or_used() -> None:
    who = np.repeat([3, 5, 8], [12, 12, 6])
    x, y = np.stack([np.arange(30.0), who], axis=1), np.arange(30) % 2
    for targets, shots, queries, has in ((y, 1, 4, 2), (y / 1.0, 2, 8, 4)):
        with pytest.raises(ValueError, match=r"in group 8. Lower it, or leave such groups out"):
            from_groups(x, targets, who, shots, queries)
        skipped = from_groups(x, targets, who, shots, queries, small_groups="skip")
        assert (skipped.left_out, skipped.members.tolist()) == ((8,), [3, 5])
        assert set(skipped.sample(50, seed=0).x_query[..., 1].ravel()) == {3, 5}
        used = from_groups(x, targets, who, shots, queries, small_groups="use")
        assert used.left_out == ()
        per = {group: used.of(group).sample(1, seed=0).x_query.shape[1] for group in (3, 8)}
        classes = 2 if targets is y else 1
        assert per == {3: queries * classes, 8: has * classes}
    ranged = from_groups(x, y, who, shots=(1, 2), queries=(1, 4))
    assert len({ranged.sample(1, seed=0, step=i).x_support.shape[1] for i in range(20)}) == 2
    assert replace(ranged, shots=1).sample(3, seed=0).x_support.shape == (3, 2, 2)
