from __future__ import annotations

import dataclasses
import hashlib
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastmeta.tasks import Batch, Sinusoid

ROOT = Path(__file__).parents[2]


def digest(batch: Batch) -> str:
    return hashlib.sha256(b"".join(a.tobytes() for a in (batch.x_support, batch.y_query))).hexdigest()


def test_shapes_and_dtypes() -> None:
    batch = Sinusoid(shots=3, queries=7).sample(4, seed=0)
    for x, y, samples in ((batch.x_support, batch.y_support, 3), (batch.x_query, batch.y_query, 7)):
        assert x.shape == y.shape == (4, samples, 1)
        assert x.dtype == y.dtype == np.float32


def test_points_lie_on_the_curves_that_parameters_returns() -> None:
    tasks = Sinusoid(shots=5, queries=20)
    batch = tasks.sample(50, seed=3, step=7)
    amplitude, phase = tasks.parameters(50, seed=3, step=7)
    for x, y in ((batch.x_support, batch.y_support), (batch.x_query, batch.y_query)):
        curve = amplitude[:, None] * np.sin(x[..., 0].astype(np.float64) - phase[:, None])
        np.testing.assert_allclose(y[..., 0], curve, rtol=0, atol=3e-7)


def test_parameters_and_points_are_uniform_on_their_ranges() -> None:
    tasks = Sinusoid()
    amplitude, phase = tasks.parameters(20_000, seed=1)
    x = tasks.sample(2_000, seed=1).x_query.ravel()
    for values, low, high in ((amplitude, 0.1, 5.0), (phase, 0.0, math.pi), (x, -5.0, 5.0)):
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high
        counts = np.histogram(values, bins=10, range=(low, high))[0]
        expected = len(values) / 10
        assert np.square(counts - expected).sum() / expected < 27.9  # chi-squared, 9 degrees, p = 0.001
    assert abs(np.corrcoef(amplitude, phase)[0, 1]) < 0.03


def test_ranges_are_respected() -> None:
    tasks = Sinusoid(amplitude=(2.0, 2.0), phase=(1.0, 1.0), x_range=(0.0, 1.0))
    batch = tasks.sample(30, seed=0)
    assert batch.x_support.min() >= 0
    assert batch.x_support.max() <= 1
    np.testing.assert_allclose(batch.y_support, 2 * np.sin(batch.x_support - 1.0), atol=1e-6)


def test_other_shots_keep_the_curves() -> None:
    tasks = Sinusoid(shots=10)
    fewer = dataclasses.replace(tasks, shots=5)
    assert fewer.sample(4, seed=2).x_support.shape == (4, 5, 1)
    np.testing.assert_array_equal(fewer.parameters(4, seed=2), tasks.parameters(4, seed=2))


def test_seed_and_step_decide_the_batch() -> None:
    tasks = Sinusoid()
    digests = [digest(tasks.sample(25, seed, step)) for seed in range(3) for step in range(3)]
    assert len(set(digests)) == 9
    assert digests == [digest(tasks.sample(25, seed, step)) for seed in range(3) for step in range(3)]


def test_another_process_draws_the_same_bits() -> None:
    program = (
        "import hashlib; from fastmeta.tasks import Sinusoid; b = Sinusoid().sample(25, 5, 6);"
        "print(hashlib.sha256(b.x_support.tobytes() + b.y_query.tobytes()).hexdigest())"
    )
    path = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'kernels')!r}];"
    done = subprocess.run([sys.executable, "-c", path + program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest(Sinusoid().sample(25, 5, 6))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"shots": 0}, ValueError, "shots=0 must be at least 1"),
        ({"queries": 2.5}, TypeError, "queries=2.5 must be a whole number"),
        (
            {"amplitude": (5.0, 0.1)},
            ValueError,
            r"amplitude=\(5.0, 0.1\) must have low <= high. Give amplitude=",
        ),
        ({"phase": (0.0, math.inf)}, ValueError, r"phase\[1\]=inf must be finite"),
        ({"x_range": 5.0}, TypeError, "x_range=5.0 must be two numbers"),
        ({"x_range": ("a", 1)}, TypeError, r'x_range\[0\]="a" must be a number'),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Sinusoid(**arguments)


@pytest.mark.parametrize("method", ["sample", "parameters"])
def test_bad_numbers_of_tasks_are_named(method: str) -> None:
    with pytest.raises(ValueError, match="tasks=0 must be at least 1"):
        getattr(Sinusoid(), method)(0, seed=0)
