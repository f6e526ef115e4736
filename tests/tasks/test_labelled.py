from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmeta.tasks import Batch, LabelledTasks, from_arrays

ROOT = Path(__file__).parents[2]


def numbered(counts: list[int], values: list[int] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Samples whose two features are their own number and label, in a mixed-up order."""
    y = np.repeat(range(len(counts)) if values is None else values, counts)
    y = np.random.default_rng(0).permutation(y)
    return np.stack([np.arange(len(y)), y], axis=1).astype(np.float32), y


def digest(batch: Batch) -> str:
    parts = (batch.x_support, batch.y_support, batch.x_query, batch.y_query)
    return hashlib.sha256(b"".join(a.tobytes() for a in parts)).hexdigest()


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(3, 9), min_size=2, max_size=8),
    seed=st.integers(0, 2**40),
    step=st.integers(0, 2**40),
    data=st.data(),
)
def test_every_task_is_a_proper_episode(counts: list[int], seed: int, step: int, data: st.DataObject) -> None:
    ways = data.draw(st.integers(2, len(counts)))
    shots = data.draw(st.integers(1, min(counts) - 1))
    queries = data.draw(st.integers(1, min(counts) - shots))
    values = [10 * i - 25 for i in range(len(counts))]
    x, y = numbered(counts, values)
    batch = from_arrays(x, y, ways, shots, queries).sample(3, seed, step)
    assert batch.x_support.shape == (3, ways * shots, 2)
    assert batch.x_query.shape == (3, ways * queries, 2)
    for t in range(3):
        np.testing.assert_array_equal(batch.y_support[t], np.repeat(np.arange(ways), shots))
        np.testing.assert_array_equal(batch.y_query[t], np.repeat(np.arange(ways), queries))
        support, query = batch.x_support[t], batch.x_query[t]
        chosen = support[::shots, 1]  # the class behind each label
        assert len(set(chosen)) == ways
        assert set(chosen) <= set(values)
        np.testing.assert_array_equal(support[:, 1], chosen[batch.y_support[t]])
        np.testing.assert_array_equal(query[:, 1], chosen[batch.y_query[t]])
        numbers = np.concatenate([support[:, 0], query[:, 0]])
        assert len(set(numbers)) == len(numbers)
        np.testing.assert_array_equal(y[numbers.astype(int)], np.concatenate([support[:, 1], query[:, 1]]))


def test_every_class_meets_every_label_equally_often() -> None:
    x, y = numbered([4] * 6)
    batch = from_arrays(x, y, ways=3, shots=1, queries=1).sample(9_000, seed=0)
    table = np.zeros((3, 6))
    np.add.at(table, (batch.y_support, batch.x_support[..., 1].astype(int)), 1)
    assert np.square(table - 1_500).sum() / 1_500 < 45.3  # chi-squared, 15 degrees at most, p < 0.001


def test_every_sample_is_support_and_query_equally_often() -> None:
    x, y = numbered([5, 5])
    batch = from_arrays(x, y, ways=2, shots=2, queries=2).sample(5_000, seed=0)
    for drawn in (batch.x_support, batch.x_query):
        counts = np.bincount(drawn[..., 0].astype(int).ravel(), minlength=10)
        assert np.square(counts - 2_000).sum() / 2_000 < 27.9
    pairs = np.sort(batch.x_support[:, :2, 0], axis=1)  # two of five: ten pairs a class
    seen, counts = np.unique(pairs, axis=0, return_counts=True)
    assert len(seen) == 20
    assert np.square(counts - 250).sum() / 250 < 43.8  # 19 degrees


def test_all_samples_of_a_class_can_be_used() -> None:
    x, y = numbered([4, 4, 4])
    batch = from_arrays(x, y, ways=3, shots=1, queries=3).sample(2, seed=0)
    for t in range(2):
        drawn = np.concatenate([batch.x_support[t, :, 0], batch.x_query[t, :, 0]])
        assert sorted(drawn) == list(range(12))


def test_images_are_scaled_and_floats_are_not() -> None:
    images = np.arange(0, 256, 255 // 7, dtype=np.uint8)[:6].reshape(6, 1, 1) * np.ones((1, 2, 2), np.uint8)
    images[0] = 255
    y = np.array([0, 0, 0, 1, 1, 1])
    drawn = from_arrays(images, y, ways=2, shots=1, queries=2).sample(1, seed=0)
    values = np.concatenate([drawn.x_support, drawn.x_query], axis=1)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(np.sort(values[..., 0, 0].ravel()), np.sort(images[:, 0, 0] / np.float32(255)))
    floats = from_arrays(images.astype(np.float64), y, ways=2, shots=1, queries=2).sample(1, seed=0)
    assert floats.x_query.dtype == np.float32
    np.testing.assert_array_equal(floats.x_query, np.round(drawn.x_query * 255))


def test_variants_never_meet_in_one_task() -> None:
    x, y = numbered([2] * 12)
    batch = LabelledTasks(x, y, ways=3, shots=1, queries=1, variants=4).sample(2_000, seed=0)
    classes = batch.x_support[..., 1].astype(int)
    assert set(classes.ravel()) == set(range(12))
    assert all(sorted(row) == [0, 1, 2] for row in classes // 4)


def test_samples_are_not_copied_or_changed() -> None:
    x, y = numbered([4, 4])
    before = x.copy()
    tasks = from_arrays(x, y, ways=2, shots=1, queries=1)
    batch = tasks.sample(3, seed=0)
    batch.x_support[:] = -1
    batch.y_support[:] = -1
    assert np.shares_memory(tasks.x, x)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(tasks.sample(3, seed=0).y_support, [[0, 1]] * 3)


def test_other_sizes_by_replace() -> None:
    tasks = from_arrays(*numbered([6] * 5), ways=2, shots=1, queries=1)
    wider = dataclasses.replace(tasks, ways=5, shots=2)
    assert wider.sample(2, seed=0).x_support.shape == (2, 10, 2)
    np.testing.assert_array_equal(wider.classes, np.arange(5))


def test_threads_and_repetition_change_nothing() -> None:
    tasks = from_arrays(*numbered([20] * 30), ways=5, shots=1, queries=5)
    alone = [digest(tasks.sample(8, seed=1, step=step)) for step in range(40)]
    assert len(set(alone)) == 40
    with ThreadPoolExecutor(4) as pool:
        assert alone == list(pool.map(lambda step: digest(tasks.sample(8, seed=1, step=step)), range(40)))


def test_another_process_draws_the_same_bits() -> None:
    program = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'kernels')!r}];"
        "import numpy as np; from fastmeta.tasks import from_arrays;"
        "b = from_arrays(np.arange(60.0)[:, None], np.arange(60) % 6, shots=2, queries=3).sample(9, 4, 2);"
        "print(b.x_support.astype(int).ravel().tolist())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    here = from_arrays(np.arange(60.0)[:, None], np.arange(60) % 6, shots=2, queries=3).sample(9, 4, 2)
    assert done.stdout.strip() == str(here.x_support.astype(int).ravel().tolist())


GOOD = {"x": np.zeros((40, 3)), "y": np.arange(40) % 2, "ways": 2, "shots": 1, "queries": 15}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"ways": 3}, ValueError, "ways=3 must be at most 2, the number of classes.* Lower ways"),
        ({"ways": 1}, ValueError, "ways=1 must be at least 2"),
        ({"shots": 0}, ValueError, "shots=0 must be at least 1"),
        ({"queries": True}, TypeError, "queries=True must be a whole number"),
        (
            {"y": np.where(np.arange(40) < 12, 7, 9)},
            ValueError,
            "queries=16 must be at most 12, the number of samples of class 7. Lower shots or queries",
        ),
        ({"y": np.arange(40) % 2 / 1.0}, TypeError, "y of dtype float64 must be whole numbers"),
        ({"y": np.array(["a", "b"] * 20)[:, None]}, ValueError, r"y of shape \(40, 1\) must be \(n,\)"),
        ({"y": np.arange(39) % 2}, ValueError, r"y of shape \(39,\) must be \(40,\)"),
        ({"y": np.zeros((40, 1), int)}, ValueError, r"y of shape \(40, 1\) must be \(40,\)"),
        ({"x": np.zeros(40)}, ValueError, r"x of shape \(40,\) must be \(samples, ...features\)"),
        ({"x": np.zeros((0, 3)), "y": np.zeros(0, int)}, ValueError, r"x of shape \(0, 3\) must be"),
        ({"x": np.zeros((40, 3), int)}, TypeError, "x of dtype int64 must be floats or uint8"),
        ({"x": np.full((40, 3), np.nan)}, ValueError, r"x must be finite; 120 of 120 .* at \(0, 0\)"),
        ({"x": np.full((40, 3), 1e300)}, ValueError, "x must be finite"),
    ],
)
def test_bad_data_are_named(changes: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        from_arrays(**(GOOD | changes))


def test_variants_must_divide_the_classes() -> None:
    with pytest.raises(ValueError, match="variants=4 must divide the number of classes, 6"):
        LabelledTasks(*numbered([4] * 6), ways=2, shots=1, queries=1, variants=4)


def test_bad_numbers_of_tasks_are_named() -> None:
    with pytest.raises(ValueError, match="tasks=-1 must be at least 1"):
        from_arrays(**GOOD).sample(-1, seed=0)


def test_tasks_carry_the_attributes_of_their_classes():
    x = np.repeat([3.0, 5, 9], 6)[:, None] + np.zeros((18, 2))
    y, described = np.repeat([30, 50, 90], 6), np.array([[3.0, 0], [5, 1], [9, 2]])
    tasks = from_arrays(x, y, ways=2, queries=3, attributes=described)
    batch = tasks.sample(4, seed=0)
    assert batch.attributes.shape == (4, 2, 2)
    assert batch.attributes.dtype == np.float32
    for t in range(4):
        np.testing.assert_array_equal(batch.attributes[t][batch.y_query[t], 0], batch.x_query[t, :, 0])
    fewer = from_arrays(x[5:], y[5:], ways=2, queries=3, small_classes="skip", attributes=described)
    assert set(fewer.sample(9, seed=0).attributes[..., 0].ravel()) == {5, 9}
    plain = from_arrays(x, y, ways=2, queries=3).sample(4, seed=0)
    assert plain.attributes is None
    np.testing.assert_array_equal(plain.x_query, batch.x_query)
    with pytest.raises(ValueError, match=r"attributes of shape \(2, 2\) .* must be floats of shape \(3, attributes\)"):
        from_arrays(x, y, ways=2, queries=3, attributes=described[:2])
