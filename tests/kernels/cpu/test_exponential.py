"""Functions of machine vectors: their error in ulp against float64 or a longer type, their ends and NaN."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from fastmeta_kernels.cpu.machine import exponential, jit
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES, load, store

LONG = np.longdouble


def vectorised(function):
    @numba.njit(**jit.OPTIONS)
    def run(x, y):
        for i in range(0, x.size, VECTOR_BYTES // x.itemsize):
            store(y, i, function(load(x, i)))

    return run


def exact(name: str, x: np.ndarray) -> np.ndarray:
    x = x.astype(LONG)
    if name == "softplus":
        return np.log1p(np.exp(-abs(x))) + np.maximum(x, 0)
    return np.asarray(getattr(np, name)(x))


def points(name: str, dtype: str) -> np.ndarray:
    """Evenly, and closer and closer to 0."""
    rng = np.random.default_rng(0)
    lowest = np.log(float(np.finfo(dtype).tiny)) + 2
    if name == "log1p":
        even, sign = rng.uniform(0, 1, 40_000), np.ones(24_000)
    elif name == "log":
        return (1 + 10.0 ** rng.uniform(-7, 6, 64_000)).astype(dtype)
    elif name in ("exp", "expm1"):
        even, sign = rng.uniform(lowest, 0, 40_000), -np.ones(24_000)
    else:
        even, sign = rng.uniform(lowest, -lowest, 40_000), rng.choice([-1, 1], 24_000)
    even[:10_000] /= 30
    x = np.concatenate([even, sign * 10.0 ** rng.uniform(-30, 0, 24_000)])
    return x.astype(dtype)


@pytest.mark.skipif(np.finfo(LONG).nmant <= 52, reason="no type is longer than float64 here")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "ulp"), [("exp", 1), ("expm1", 2), ("log1p", 2), ("log", 2), ("tanh", 3), ("softplus", 3)]
)
def test_error_in_ulp(name, ulp, dtype):
    x = points(name, dtype)
    found, wanted = np.empty_like(x), exact(name, x)
    vectorised(getattr(exponential, name))(x, found)
    off = abs(found.astype(LONG) - wanted) / np.spacing(abs(wanted).astype(dtype)).astype(LONG)
    assert off.max() <= ulp


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_far_out_and_nan(dtype):
    far = float(np.finfo(dtype).max)
    x = np.resize(np.array([-far, -1e4, -0.0, 0.0, 1e4, far, np.inf, -np.inf, np.nan], dtype), 1008)
    ends = {
        "tanh": [-1, -1, -0.0, 0, 1, 1, 1, -1, np.nan],
        "softplus": [0, 0, np.log(2), np.log(2), 1e4, far, np.inf, 0, np.nan],
    }
    for name, wanted in ends.items():
        found = np.empty_like(x)
        vectorised(getattr(exponential, name))(x, found)
        np.testing.assert_allclose(found, np.resize(np.array(wanted, dtype), 1008), rtol=1e-6)
