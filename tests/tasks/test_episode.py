from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastmeta.tasks import Batch
from fastmeta.tasks.episode import stream

ROOT = Path(__file__).parents[2]


def arrays(**changes: object) -> dict[str, object]:
    plain = {
        "x_support": np.zeros((3, 5, 2), np.float32),
        "y_support": np.zeros((3, 5), np.int64),
        "x_query": np.zeros((3, 7, 2), np.float32),
        "y_query": np.zeros((3, 7), np.int64),
    }
    return plain | changes


def test_length_is_the_number_of_tasks() -> None:
    assert len(Batch(**arrays())) == 3


def test_lists_become_arrays() -> None:
    batch = Batch([[[1.0], [2.0]]], [[[0.5], [1.0]]], [[[3.0]]], [[[1.5]]])
    assert batch.x_support.shape == (1, 2, 1)
    assert batch.y_query.dtype == np.float64


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"x_query": np.zeros((4, 7, 2))},
            ValueError,
            r"y_query of shape \(3, 7\) must hold one label a sample: \(4, 7\)",
        ),
        (
            {"x_query": np.zeros((4, 7, 2)), "y_query": np.zeros((4, 7), int)},
            ValueError,
            "x_support has 3 tasks but x_query has 4",
        ),
        (
            {"x_query": np.zeros((3, 7, 4))},
            ValueError,
            r"samples of shape \(2,\) but x_query of \(4,\)",
        ),
        ({"y_query": np.zeros((3, 7, 1))}, ValueError, "y_support is int64 but y_query is float64"),
        ({"x_support": np.zeros((3, 5))}, ValueError, r"must be numbers of shape \(tasks, samples"),
        ({"y_support": np.zeros((3, 5), bool)}, TypeError, "must be integer labels or float targets"),
        ({"y_support": np.zeros((3, 5))}, ValueError, r"must be \(3, 5, outputs\). Use integers for labels."),
        ({"query_weights": np.ones((3, 5))}, ValueError, r"must be floats of shape \(3, 7\)"),
        ({"support_weights": np.ones((3, 5), int)}, ValueError, "support_weights of shape"),
        ({"attributes": np.ones((2, 4, 6))}, ValueError, r"attributes of shape \(2, 4, 6\) .* shape \(3, ways"),
        ({"attributes": np.ones((3, 4))}, ValueError, r"attributes of shape \(3, 4\)"),
        ({"attributes": np.ones((3, 4, 6), int)}, ValueError, "and dtype int64 must be floats"),
    ],
)
def test_bad_batches_are_named(changes: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Batch(**arrays(**changes))


def test_streams_differ_by_seed_and_by_step() -> None:
    drawn = [stream(seed, step).random() for seed in range(5) for step in range(5)]
    drawn += [np.random.default_rng(seed).random() for seed in range(5)]
    assert len(set(drawn)) == len(drawn)
    assert stream(3, 4).random() == stream(np.int64(3), np.int64(4)).random()


@pytest.mark.parametrize(
    ("seed", "step", "error", "message"),
    [
        (-1, 0, ValueError, "seed=-1 must be at least 0"),
        (0, -2, ValueError, "step=-2 must be at least 0"),
        (0.5, 0, TypeError, "seed=0.5 must be a whole number"),
        (None, 0, TypeError, "seed=None must be a whole number"),
    ],
)
def test_bad_seeds_are_named(seed: int, step: int, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        stream(seed, step)


def test_importing_tasks_imports_no_optional_package() -> None:
    program = (
        "import sys, types; package = types.ModuleType('fastmeta'); package.__path__ = ['fastmeta'];"
        "sys.modules['fastmeta'] = package; import fastmeta.tasks;"
        "print(sorted({'PIL', 'tqdm', 'platformdirs', 'numba', 'http.client'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
