"""Exponentials and logarithms of any number of values: as many as are asked for, and no others."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from fastmeta_kernels.cpu.losses.softmax import below_largest, exponentials, logarithms
from fastmeta_kernels.cpu.machine import jit


@numba.njit(**jit.OPTIONS)
def _softmax(ws, n, o, z, to):
    below_largest(ws, n, o, z, to)
    exponentials(ws, to, n * o)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 3, 25])
@pytest.mark.parametrize("o", [1, 2, 5, 16, 20])
def test_exponentials_of_rows(n, o, dtype):
    rng = np.random.default_rng(n * o)
    z = (10 * rng.standard_normal((n, o))).astype(dtype)
    ws = np.full(2 * n * o + 40, 7, dtype)
    ws[: n * o] = z.ravel()
    _softmax(ws, n, o, 0, n * o + 3)
    np.testing.assert_array_equal(ws[n * o : n * o + 3], 7)
    np.testing.assert_array_equal(ws[2 * n * o + 3 :], 7)
    found = ws[n * o + 3 : 2 * n * o + 3].reshape(n, o)
    below = z - z.max(axis=1, keepdims=True)
    wanted = np.exp(below.astype(np.longdouble))
    assert (abs(found - wanted) <= np.spacing(wanted.astype(dtype))).all()


@numba.njit(**jit.OPTIONS)
def _logarithms(ws, at, count):
    logarithms(ws, at, count)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 7, 16, 25, 100])
def test_logarithms_of_masses(count, dtype):
    ws = np.full(count + 40, 7, dtype)
    ws[3 : count + 3] = np.random.default_rng(count).uniform(1, 20, count)
    ws[3] = 1
    wanted = np.log(ws[3 : count + 3].astype(np.longdouble))
    _logarithms(ws, 3, count)
    assert (ws[:3] == 7).all()
    assert (ws[count + 3 :] == 7).all()
    assert ws[3] == 0
    assert (abs(ws[3 : count + 3] - wanted) <= 2 * np.spacing(wanted.astype(dtype))).all()


def test_what_is_no_number_stays_none():
    ws = np.array([0, np.nan, 1, 0, np.inf, 1, 0, -np.inf, 1] + [0] * 9, np.float32)
    _softmax(ws, 3, 3, 0, 9)
    rows = ws[9:].reshape(3, 3)
    assert np.isnan(rows[:2].sum(axis=1)).all()
    np.testing.assert_allclose(rows[2], [np.exp(-1), 0, 1], rtol=1e-6)
