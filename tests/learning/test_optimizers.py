from __future__ import annotations

import json
import math
import sys
from typing import Any

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.learning import optimizers

OPTIMIZERS = [
    fm.SGD(0.1),
    fm.SGD(fm.StepSchedule(0.1, 0.5, 2), momentum=0.9),
    fm.Adam(),
    fm.Adam(fm.CosineSchedule(1e-3, 1e-5, 10), beta1=0.0, clip_norm=1.0),
    fm.Adam(0.01, clip_value=0.1),
]


def steps(optimizer: Any, theta: Any, gradients: Any) -> list[Any]:
    thetas, state = [], optimizer.init(theta)
    for gradient in gradients:
        theta, state = optimizer.update(theta, np.asarray(gradient, theta.dtype), state)
        thetas.append(theta)
    return thetas


def test_sgd_by_hand():
    thetas = steps(fm.SGD(0.1), np.array([1.0, -2.0]), [[10.0, 0.0], [0.0, 5.0]])
    np.testing.assert_allclose(thetas, [[0.0, -2.0], [0.0, -2.5]], atol=1e-15)


def test_momentum_by_hand():
    thetas = steps(fm.SGD(1.0, momentum=0.5), np.array([0.0]), [[1.0], [1.0], [0.0]])
    np.testing.assert_allclose(np.ravel(thetas), [-1.0, -2.5, -3.25], atol=1e-15)  # velocities 1, 1.5, 0.75


def test_adam_is_algorithm_1_of_the_paper():
    rng = np.random.default_rng(0)
    theta, slopes = rng.standard_normal(7), rng.standard_normal((20, 7))
    found = steps(fm.Adam(0.02, 0.8, 0.95, 1e-3), theta, slopes)
    m = v = np.zeros(7)
    for t, g in enumerate(slopes, start=1):
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g * g
        theta = theta - 0.02 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-3)
        np.testing.assert_allclose(found[t - 1], theta, rtol=1e-13)


def test_adams_first_step_is_the_learning_rate_whatever_the_gradients_size():
    moved = steps(fm.Adam(0.01), np.zeros(3), [[1e-3, -1.0, 1e6]])[0]
    np.testing.assert_allclose(moved, [-0.01, 0.01, -0.01], rtol=1e-4)


def test_adam_without_first_moment_ignores_the_past_direction():
    last = steps(fm.Adam(0.01, beta1=0.0), np.zeros(1), [[1.0], [-1.0]])
    assert last[1] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_and_inputs_are_kept(optimizer, dtype):
    rng = np.random.default_rng(0)
    theta = rng.standard_normal(5).astype(dtype)
    state = optimizer.init(theta)
    for _ in range(3):
        slope = 10 * rng.standard_normal(5)  # float64 also beside a float32 theta
        arrays = [theta, slope, *state.moments]
        before = [array.copy() for array in arrays]
        moved, after = optimizer.update(theta, slope, state)
        for array, copy in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(array, copy)
        assert moved.dtype == dtype
        assert all(m.dtype == dtype and m.shape == (5,) for m in after.moments)
        assert after.step == state.step + 1
        theta, state = moved, after


CURVATURE, TARGET = np.array([0.5, 1.0, 4.0]), np.array([1.0, -2.0, 0.5])


def descend(optimizer: Any, count: int) -> np.ndarray:
    """Distance from TARGET after so many steps down sum(CURVATURE (theta - TARGET)^2) / 2, from 0."""
    theta, state = np.zeros(3), optimizer.init(np.zeros(3))
    for _ in range(count):
        theta, state = optimizer.update(theta, CURVATURE * (theta - TARGET), state)
    return theta - TARGET


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_descent_of_a_quadratic_is_a_linear_recurrence(momentum):
    """(error, velocity) -> (error - rate (momentum velocity + c error), momentum velocity + c error)."""
    found, rate = descend(fm.SGD(0.1, momentum=momentum), 60), 0.1
    for c, start, error in zip(CURVATURE, -TARGET, found, strict=True):
        once = np.array([[1 - rate * c, -rate * momentum], [c, momentum]])
        assert error == pytest.approx((np.linalg.matrix_power(once, 60) @ [start, 0])[0], rel=1e-9)


@pytest.mark.parametrize(
    "optimizer",
    [
        fm.SGD(0.1, clip_norm=1.0),
        fm.SGD(fm.LinearSchedule(0.4, 0.1, 300), clip_value=0.5),
        fm.Adam(fm.CosineSchedule(0.1, 1e-5, 300)),
        fm.Adam(fm.StepSchedule(0.1, 0.5, 25), beta1=0.5, beta2=0.9),
        fm.Adam(fm.CosineSchedule(0.1, 1e-5, 300), clip_norm=1.0),
    ],
    ids=repr,
)
def test_finds_the_minimum_of_a_quadratic(optimizer):
    assert np.abs(descend(optimizer, 300)).max() <= 1e-4


def test_clip_value_limits_each_entry():
    moved = steps(fm.SGD(1.0, clip_value=2.0), np.zeros(3), [[-5.0, 1.0, 3.0]])[0]
    np.testing.assert_array_equal(moved, [2.0, -1.0, -2.0])


def test_clip_norm_keeps_the_direction_and_leaves_short_gradients_alone():
    long, short = steps(fm.SGD(1.0, clip_norm=5.0), np.zeros(2), [[30.0, 40.0], [3.0, 3.9]])
    np.testing.assert_allclose(long, [-3.0, -4.0])
    np.testing.assert_allclose(short - long, [-3.0, -3.9])


def test_clip_norm_does_not_overflow_in_float32():
    moved = steps(fm.SGD(1.0, clip_norm=1.0), np.zeros(2, np.float32), [[3e30, 4e30]])[0]
    np.testing.assert_allclose(moved, [-0.6, -0.8], rtol=1e-6)


def test_entries_are_clipped_before_the_norm():
    moved = steps(fm.SGD(1.0, clip_value=3.0, clip_norm=2.5), np.zeros(3), [[-90.0, 0.0, 4.0]])[0]
    np.testing.assert_allclose(moved, np.array([3.0, 0.0, -3.0]) * 2.5 / np.sqrt(18), rtol=1e-15)
    moved = steps(fm.SGD(1.0, clip_value=3.0, clip_norm=4.5), np.zeros(3), [[-90.0, 0.0, 4.0]])[0]
    np.testing.assert_array_equal(moved, [3.0, 0.0, -3.0])


def test_linear_schedule():
    schedule = fm.LinearSchedule(1.0, 0.2, steps=4)
    np.testing.assert_allclose([schedule(step) for step in (0, 1, 4, 5, 1000)], [1, 0.8, 0.2, 0.2, 0.2], rtol=1e-15)
    assert fm.LinearSchedule(1.0, 0.0, steps=4)(9) == 0


def test_cosine_schedule():
    schedule = fm.CosineSchedule(1e-3, 1e-5, steps=100)
    values = [schedule(step) for step in (0, 50, 100, 1000)]
    np.testing.assert_allclose(values, [1e-3, (1e-3 + 1e-5) / 2, 1e-5, 1e-5])
    assert schedule(25) == pytest.approx(1e-5 + (1e-3 - 1e-5) * (1 + math.sqrt(0.5)) / 2)


def test_step_schedule():
    schedule = fm.StepSchedule(1e-3, 0.5, every=2000)
    assert [schedule(step) for step in (0, 1999, 2000, 6000)] == [1e-3, 1e-3, 5e-4, 1.25e-4]


def test_schedule_counts_updates():
    moved = steps(fm.SGD(fm.StepSchedule(1.0, 0.1, every=1)), np.zeros(1), [[1.0]] * 3)
    np.testing.assert_allclose(np.ravel(moved), [-1.0, -1.1, -1.11])


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_dict_round_trip_through_json(optimizer):
    assert optimizers.from_dict(json.loads(json.dumps(optimizer.to_dict()))) == optimizer


def test_numpy_numbers_become_plain_ones():
    rate = fm.StepSchedule(np.float32(0.5), np.float64(0.5), every=np.int64(3))
    optimizer = fm.SGD(rate, momentum=np.float32(0.5), clip_norm=np.int32(2))
    assert optimizers.from_dict(json.loads(json.dumps(optimizer.to_dict()))) == optimizer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fm.SGD(-0.1), r"learning_rate=-0\.1 must be positive"),
        (lambda: fm.SGD(0.1, momentum=1.0), r"momentum=1\.0 must be at least 0 and below 1"),
        (lambda: fm.Adam(0), r"learning_rate=0 must be positive"),
        (lambda: fm.Adam(beta2=1), r"beta2=1 must be at least 0 and below 1"),
        (lambda: fm.Adam(epsilon=0.0), r"epsilon=0\.0 must be positive"),
        (lambda: fm.Adam(clip_norm=0), r"clip_norm=0 must be positive\. Leave it out for no clipping"),
        (lambda: fm.Adam(clip_value=math.nan), r"clip_value=nan must be finite"),
        (lambda: fm.CosineSchedule(1e-3, -1.0, 10), r"end=-1\.0 must be at least 0"),
        (lambda: fm.CosineSchedule(1e-3, 0.0, 0), r"steps=0 must be at least 1"),
        (lambda: fm.StepSchedule(1e-3, 0.0, 10), r"factor=0\.0 must be positive"),
        (lambda: fm.StepSchedule(1e-3, 0.5, 0), r"every=0 must be at least 1"),
        (lambda: optimizers.from_dict({"optimizer": "Adamm"}), r'optimizer="Adamm" must .* mean "Adam"\?'),
        (lambda: steps(fm.Adam(), np.zeros(3), [[1.0]]), r"gradient has shape \(1,\) but theta has \(3,\)"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_learning_rate_of_another_kind():
    with pytest.raises(TypeError, match=r'learning_rate="fast" must be a number'):
        fm.Adam("fast")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 3, 16, 1761])
def test_the_compiled_step_of_adam_has_numpys_bits(dtype, size):
    from fastmeta_kernels.cpu import adam

    rng = np.random.default_rng(size)
    theta = rng.standard_normal(size).astype(dtype)
    first = second = np.zeros_like(theta)
    for step in range(1, 30):
        scale = 10.0 ** rng.integers(-25, 10, size)  # squares that are subnormal, and 0, among them
        slope = (rng.standard_normal(size) * scale).astype(dtype)
        numbers = 0.9, 0.999, 1e-8 * math.sqrt(step), 1e-3 / math.sqrt(step)
        made = adam(theta, slope, (first, second), numbers)
        expected = optimizers._adam(theta, slope, (first, second), numbers)
        for found, wanted in zip(made, expected, strict=True):
            assert found.dtype == dtype
            np.testing.assert_array_equal(found.view(np.uint8), wanted.view(np.uint8))
        theta, first, second = made


def test_what_the_compiled_step_of_adam_leaves_to_numpy():
    from fastmeta_kernels.cpu import adam

    one, numbers = np.ones(4, np.float32), (0.9, 0.999, 1e-8, 1e-3)
    assert adam(one, one, (one, one), numbers)
    large = np.full(4, 1e30, np.float32)
    assert adam(one, large, (one, one), numbers) is None  # its square overflows
    assert adam(one, one * np.nan, (one, one), numbers) is None
    assert adam(one, one, (one, one), (0.9, 0.999, 1e-8, 1e300)) is None
    assert adam(one, one, (one, one), (0.9, 0.999, 1e300, 1e-3)) is None
    assert adam(one, one, (np.ones(8, np.float32)[::2], one), numbers) is None
    assert adam(one.astype(">f4"), one.astype(">f4"), (one, one), numbers) is None
    half = np.ones(4, np.float16)
    assert adam(half, half, (half, half), numbers) is None


def test_an_update_by_adam_is_one_whether_kernels_are_loaded_or_not(monkeypatch):
    import fastmeta_kernels.cpu  # noqa: F401

    optimizer, found = fm.Adam(fm.CosineSchedule(1e-2, 1e-4, 9), clip_norm=2), []
    for loaded in (True, False):
        if not loaded:
            monkeypatch.delitem(sys.modules, "fastmeta_kernels.cpu")
        rng = np.random.default_rng(0)
        theta = rng.standard_normal(40).astype(np.float32)
        state = optimizer.init(theta)
        for _ in range(9):
            theta, state = optimizer.update(theta, rng.standard_normal(40), state)
        found.append((theta, *state.moments))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)
