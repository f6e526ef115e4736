"""Labels of any hashable kind, of classes and of groups."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.tasks import from_arrays, from_groups

STRINGS = ["cow", "ant", "bee"]
TUPLES = [("b", 2), ("a", 9), ("a", 1)]
KINDS: dict[str, list[Any]] = {
    "strings": STRINGS,
    "tuples": TUPLES,
    "whole numbers": [9, -3, 5],
    "large numbers": [2**40, 7, 1],
    "frozen sets": [frozenset("a"), frozenset("b"), frozenset("c")],
    "kinds that have no order": ["ant", 3, ("x",)],
}


def samples(labels: list[Any], each: int = 4) -> tuple[np.ndarray, list[Any]]:
    """Sample i is (i, place of its label in `labels`), in mixed order."""
    places = np.random.default_rng(0).permutation(np.repeat(np.arange(len(labels)), each))
    return np.stack([np.arange(len(places)), places], axis=1).astype(float), [labels[i] for i in places]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("as_array", [False, True])
def test_every_label_of_a_task_stands_for_its_class(kind, as_array):
    labels = KINDS[kind]
    x, y = samples(labels)
    if as_array:
        if kind == "tuples":
            array = np.empty(len(y), object)
            array[:] = y
        else:
            array = np.array(y) if kind in ("strings", "whole numbers", "large numbers") else np.array(y, object)
        tasks = from_arrays(x, array, ways=2, shots=1, queries=2)
    else:
        tasks = from_arrays(x, y, ways=2, shots=1, queries=2)
    assert set(tasks.class_names) == set(labels)
    assert len(tasks.class_names) == 3
    if kind not in ("frozen sets", "kinds that have no order"):
        assert tasks.class_names == tuple(sorted(labels))
    else:
        assert tasks.class_names == tuple(dict.fromkeys(y))
    for step in range(20):
        batch, classes = tasks.sample(3, seed=4, step=step), tasks.classes_of(3, seed=4, step=step)
        for t in range(3):
            meant = [tasks.class_names[classes[t, label]] for label in batch.y_query[t]]
            assert meant == [labels[int(place)] for place in batch.x_query[t, :, 1]]
    wider = dataclasses.replace(tasks, ways=3)
    assert wider.class_names == tasks.class_names


def test_names_draw_the_episodes_that_numbers_draw():
    x, y = samples(sorted(STRINGS))
    numbers = [sorted(STRINGS).index(label) for label in y]
    named, numbered = (from_arrays(x, labels, ways=2, queries=3).sample(5, 7) for labels in (y, numbers))
    np.testing.assert_array_equal(named.x_query, numbered.x_query)


@pytest.mark.parametrize("variants", [1, 2])
def test_classes_of_is_what_the_sample_has(variants):
    x = np.repeat(np.arange(12.0), 3)[:, None]
    tasks = fm.tasks.LabelledTasks(x, np.repeat(np.arange(12) * 5, 3), 4, 1, 2, variants)
    batch, classes = tasks.sample(6, 1, 2), tasks.classes_of(6, 1, 2)
    np.testing.assert_array_equal(batch.x_support[:, :, 0], classes)
    assert tasks.class_names[3] == 15


def test_small_classes_are_left_out_by_name():
    x, y = samples(STRINGS)
    x, y = x[:-1], [*y[:-1]]
    few = max(set(STRINGS), key=lambda name: y.count(name) == 3)
    tasks = from_arrays(x, y, ways=2, shots=1, queries=3, small_classes="skip")
    assert tasks.left_out == (few,)
    assert few not in tasks.class_names
    assert dataclasses.replace(tasks, queries=2).left_out == ()
    with pytest.raises(ValueError, match=f'number of samples of class "{few}"'):
        from_arrays(x, y, ways=2, shots=1, queries=3)


def test_attributes_are_in_the_order_of_class_names():
    x, y = samples(STRINGS)
    described = np.array([[STRINGS.index(name)] for name in sorted(STRINGS)], float)
    batch = from_arrays(x, y, ways=2, queries=2, attributes=described).sample(5, 0)
    for t in range(5):
        np.testing.assert_array_equal(batch.attributes[t][batch.y_query[t], 0], batch.x_query[t, :, 1])


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (["ant"], TypeError, r"y\[2\]=\['ant'\] of type list must be hashable"),
        ({"ant"}, TypeError, r"y\[2\]=\{'ant'\} of type set must be hashable"),
        (None, ValueError, r"y\[2\]=None must be a label, not a missing value"),
        (float("nan"), ValueError, r"y\[2\]=nan must be a label, not a missing value"),
        (np.datetime64("NaT", "D"), ValueError, "must be a label, not a missing value"),
    ],
)
def test_what_is_no_label_is_named(bad, error, message):
    x, y = samples(STRINGS)
    y[2] = bad
    with pytest.raises(error, match=message):
        from_arrays(x, y, ways=2, shots=1, queries=1)
    with pytest.raises(error, match=message.replace("y", "groups", 1) if message.startswith("y") else message):
        from_groups(x, np.zeros(12, int), y, shots=1, queries=1)


def test_other_bad_labels():
    x, y = samples(STRINGS)
    with pytest.raises(ValueError, match=r"y of shape \(12, 1\) must be \(n,\)"):
        from_arrays(x, np.array(y)[:, None], ways=2)
    with pytest.raises(ValueError, match=r"y of shape \(11,\) must be \(12,\)"):
        from_arrays(x, y[:-1], ways=2, queries=1)
    with pytest.raises(TypeError, match="y of dtype float64 must be whole numbers"):
        from_arrays(x, [0.5, 1.5, 2.5] * 4, ways=2)


def of_people() -> Any:
    who = [name for name in ("cy", "ann", "bob") for _ in range(8)]
    y = ["sit", "run"] * 12
    x = np.array([[("ann", "bob", "cy").index(name), ("run", "sit").index(c)] for name, c in zip(who, y, strict=True)])
    return x.astype(float), y, who


def test_groups_and_their_classes_have_names():
    tasks = from_groups(*of_people(), shots=1, queries=3)
    assert tasks.member_names == ("ann", "bob", "cy")
    assert tasks.class_names == ("run", "sit")
    batch = tasks.sample(30, 0)
    np.testing.assert_array_equal(batch.x_query[..., 1], batch.y_query)
    for wanted, places in (("bob", {1}), (["cy", "ann"], {0, 2}), (("ann",), {0}), (np.array(["bob", "cy"]), {1, 2})):
        some = tasks.of(wanted)
        assert set(some.sample(30, 0).x_query[..., 0].ravel()) == places
        assert some.member_names == tuple(tasks.member_names[i] for i in sorted(places))
        assert dataclasses.replace(some, queries=2).member_names == some.member_names
    with pytest.raises(ValueError, match=r"members=\['zed'\] must be among \['ann', 'bob', 'cy'\]"):
        tasks.of("zed")
    x, y, who = of_people()
    pairs = [(name, 1) for name in who]
    assert from_groups(x, y, pairs, shots=1, queries=3).of(("bob", 1)).member_names == (("bob", 1),)
    with pytest.raises(ValueError, match=r"of class run in group ann"):
        from_groups(x[:15], y[:15], who[:15], shots=1, queries=3)
    assert from_groups(x[:15], y[:15], who[:15], shots=1, queries=3, small_groups="skip").left_out == ("ann",)


def test_regression_over_named_groups():
    x, _, who = of_people()
    tasks = from_groups(x, np.arange(24.0), who, shots=2, queries=3)
    assert tasks.class_names == ()
    assert set(tasks.of("bob").sample(20, 0).y_query.ravel()) <= set(range(16, 24))


def test_labels_of_pandas():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    x, y = samples(STRINGS)
    for column in (pandas.Series(y), pandas.Series(y, dtype="category"), pandas.Series(y, dtype="string")):
        assert from_arrays(x, column, ways=2, queries=2).class_names == ("ant", "bee", "cow")
    y[3] = pandas.NA
    with pytest.raises(ValueError, match="must be a label, not a missing value"):
        from_arrays(x, pandas.Series(y), ways=2, queries=2)


class Tensor:
    """An array of one number, equal to itself alone, as tensors of other libraries are."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array(self.value, dtype)


@pytest.mark.parametrize("as_array", [False, True])
def test_tensors_are_labels_by_their_numbers(as_array):
    x, y = samples([0, 1, 2])
    tensors: Any = [Tensor(label) for label in y]
    if as_array:
        tensors, places = np.empty(len(y), object), tensors
        tensors[:] = places
    found = from_arrays(x, tensors, ways=2, shots=1, queries=2).sample(3, seed=0)
    expected = from_arrays(x, y, ways=2, shots=1, queries=2).sample(3, seed=0)
    np.testing.assert_array_equal(found.x_query, expected.x_query)
    np.testing.assert_array_equal(found.y_query, expected.y_query)
