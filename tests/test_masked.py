"""Masked values are missing, not numbers: refused at every door. Rows of different lengths are named."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastmeta as fm
from fastmeta import checks

NET = fm.MLP((4, 5, 3))
THETA = NET.init(0)
X = np.random.default_rng(0).standard_normal((60, 4))
Y = np.repeat(np.arange(6), 10)


def hidden(values: Any) -> np.ma.MaskedArray:
    """`values`, of which the first is masked."""
    mask = np.zeros(np.shape(values), bool)
    mask.flat[0] = True
    return np.ma.array(values, mask=mask)


def batch(**changes: Any) -> fm.Batch:
    """A batch of two tasks of which some arrays are others."""
    arrays = fm.tasks.from_arrays(X, Y, ways=3, shots=1, queries=2).sample(2, seed=0)
    ones = {"support_weights": np.ones((2, 3)), "query_weights": np.ones((2, 6)), "attributes": np.ones((2, 3, 2))}
    names = ("x_support", "y_support", "x_query", "y_query")
    return fm.Batch(**({n: getattr(arrays, n) for n in names} | ones | changes))


def learner(**options: Any) -> fm.MAML:
    return fm.MAML(NET, device="numpy", **options)


def fitted(made: fm.Learner) -> Any:
    return made.fit(fm.tasks.from_arrays(X, Y, ways=3, shots=1, queries=2), 0)


PLAIN = batch()
SUPPORT = PLAIN.x_support[0], PLAIN.y_support[0]
DOORS: dict[str, Callable[[], Any]] = {
    "from_arrays, x": lambda: fm.tasks.from_arrays(hidden(X), Y),
    "from_arrays, a list of masked rows": lambda: fm.tasks.from_arrays([hidden(row) for row in X], Y),
    "from_arrays, y": lambda: fm.tasks.from_arrays(X, hidden(Y)),
    "LabelledTasks": lambda: fm.tasks.LabelledTasks(hidden(X), Y),
    "from_groups, x": lambda: fm.tasks.from_groups(hidden(X), Y % 2, Y),
    "from_groups, y": lambda: fm.tasks.from_groups(X, hidden(Y % 2), Y),
    "from_groups, targets": lambda: fm.tasks.from_groups(X, hidden(X[:, 0]), Y),
    "from_groups, groups": lambda: fm.tasks.from_groups(X, Y % 2, hidden(Y)),
    "from_groups, support": lambda: fm.tasks.from_groups(X, Y % 2, Y, support=hidden(Y > 2)),
    **{f"Batch, {n}": lambda n=n: batch(**{n: hidden(getattr(PLAIN, n))}) for n in vars(PLAIN)},
    "predict, x": lambda: fm.predict(NET, THETA, hidden(X)),
    "predict, theta": lambda: fm.predict(NET, hidden(THETA), X),
    "loss, weights": lambda: fm.loss(NET, THETA, *SUPPORT, hidden(np.ones(3))),
    "gradient, y": lambda: fm.gradient(NET, THETA, SUPPORT[0], hidden(SUPPORT[1])),
    "hvp, v": lambda: fm.hvp(NET, THETA, hidden(THETA), *SUPPORT),
    "adapt, inner_lr": lambda: fm.adapt(NET, THETA, *SUPPORT, inner_lr=hidden([0.1])),
    "meta_gradient, loss_weights": lambda: fm.meta_gradient(NET, THETA, PLAIN, loss_weights=hidden([0.5, 0.5])),
    "meta_gradient, step_parameters": lambda: fm.meta_gradient(
        NET, THETA, PLAIN, step_parameters={"linear1.bias": hidden(np.zeros((2, 5)))}
    ),
    "check_meta_gradient": lambda: fm.check_meta_gradient(NET, hidden(THETA), PLAIN),
    "prototype_loss": lambda: fm.prototype_loss(hidden(X), Y, X, Y),
    "prototype_loss, labels": lambda: fm.prototype_loss(X, hidden(Y), X, Y),
    "views": lambda: NET.views(hidden(THETA)),
    "MAML, inner_lr": lambda: learner(inner_lr=hidden(np.full(4, 0.1))),
    "fit, theta": lambda: learner().fit(fm.tasks.from_arrays(X, Y, ways=3, queries=2), 1, theta=hidden(THETA)),
    "adapt of a learner": lambda: fitted(learner()).adapt(hidden(SUPPORT[0]), SUPPORT[1]),
    "predict of a model": lambda: fitted(learner()).adapt(*SUPPORT).predict(hidden(X)),
    "evaluate, inner_steps": lambda: fitted(learner()).evaluate(
        fm.tasks.from_arrays(X, Y, ways=3, queries=2), 2, inner_steps=hidden([1, 2])
    ),
    "adapt of Transfer": lambda: fitted(fm.Transfer(fm.MLP((4, 5, 6)), device="numpy")).adapt(
        *SUPPORT, hidden(np.ones(3))
    ),
    "adapt of ProtoNet": lambda: fitted(fm.ProtoNet(NET, device="numpy")).adapt(hidden(SUPPORT[0]), SUPPORT[1]),
    "Adam, init": lambda: fm.Adam(0.1).init(hidden(THETA)),
    "Adam, gradient": lambda: fm.Adam(0.1).update(THETA, hidden(THETA), fm.Adam(0.1).init(THETA)),
    "SGD, theta": lambda: fm.SGD(0.1).update(hidden(THETA), THETA, fm.SGD(0.1).init(THETA)),
    "SGD, init": lambda: fm.SGD(0.1, momentum=0.5).init(hidden(THETA)),
    "Score": lambda: fm.Score(hidden([0.5, 0.75])),
    "evaluate, outputs": lambda: fitted(Majority(NET, "numpy")).evaluate(
        fm.tasks.from_arrays(X, Y, ways=3, queries=2), 2
    ),
}


class Majority(fm.Learner):
    """A baseline of the user's own, whose outputs are masked."""

    def meta_gradients(self, batch: fm.Batch) -> Any:
        raise NotImplementedError

    def adapt(self, *data: Any, **options: Any) -> Any:
        raise NotImplementedError

    def query_outputs(self, batch: fm.Batch) -> np.ndarray:
        return hidden(np.zeros((*batch.y_query.shape, 3)))


@pytest.mark.parametrize("door", DOORS)
def test_masked_values_are_refused(door: str) -> None:
    with pytest.raises(ValueError, match=r"must not have masked values; \d+ of \d+ are. Give numbers in their place"):
        DOORS[door]()


def test_a_mask_that_hides_nothing_is_an_array() -> None:
    whole = fm.tasks.from_arrays(np.ma.array(X), np.ma.array(Y, mask=False), ways=3, queries=2)
    assert type(whole.x) is np.ndarray
    plain = fm.tasks.from_arrays(X, Y, ways=3, queries=2)
    np.testing.assert_array_equal(whole.sample(2, 0).x_query, plain.sample(2, 0).x_query)
    np.testing.assert_array_equal(
        fm.predict(NET, np.ma.array(THETA), np.ma.array(X), device="numpy"), fm.predict(NET, THETA, X, device="numpy")
    )


RAGGED: dict[str, tuple[Any, str]] = {
    "rows": ([[1, 2], [3]], "x[0] has 2, x[1] has 1."),
    "the third row": ([[1.0, 2.0]] * 2 + [[1.0, 2.0, 3.0]], "x[0] has 2, x[2] has 3."),
    "a number among rows": ([[1, 2], 3], "x[0] has 2, x[1] has 1."),
    "deeper": ([[[1], [2]], [[1, 2], [3, 4]]], "x[0][0] has 1, x[1][0] has 2."),
    "arrays": ([np.zeros((3, 4)), np.zeros((3, 5))], "x[0][0] has 4, x[1][0] has 5."),
    "arrays of other heights": ([np.zeros((3, 4)), np.zeros((2, 4))], "x[0] has 3, x[1] has 2."),
}


@pytest.mark.parametrize("kind", RAGGED)
def test_rows_of_different_lengths_are_named(kind: str) -> None:
    value, message = RAGGED[kind]
    with pytest.raises(
        ValueError,
        match=re.escape(f"x must be an array; its rows differ in length. Give each as many values; {message}"),
    ):
        checks.array("x", value)


@pytest.mark.parametrize(
    "door",
    [
        lambda: fm.tasks.from_arrays([[1.0, 2.0], [3.0]], [0, 1]),
        lambda: fm.Batch([[[1.0, 2.0], [3.0]]], [[0, 1]], [[[1.0]]], [[0]]),
        lambda: fm.tasks.from_groups([[1.0, 2.0], [3.0]], [0, 1], [0, 1]),
        lambda: fm.Score([[0.5, 0.6], [0.5]]),
        lambda: fm.predict(NET, THETA, [[1.0, 2.0, 3.0, 4.0], [1.0]]),
        lambda: fm.prototype_loss([[1.0, 2.0], [1.0]], [0, 1], [[1.0]], [0]),
    ],
)
def test_every_door_names_them(door: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"must be an array; its rows differ in length.*\[1\] has 1"):
        door()


@pytest.mark.parametrize("value", [None, [None, 1.0], {1, 2}, np.array([[1, 2], [3]], object), [object()]])
def test_objects_are_no_numbers(value: Any) -> None:
    with pytest.raises(TypeError, match="x must hold numbers, not objects such as"):
        checks.array("x", value)
