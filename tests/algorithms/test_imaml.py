from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastmeta as fm
from fastmeta.gradients.conjugate_gradients import conjugate_gradients
from tests.algorithms.learners import Fixed, meta_gradient_errors
from tests.cases import Case
from tests.gradcheck import relative
from tests.gradients.test_gradients import EVERYDAY, networks


@st.composite
def problems(draw):
    net = draw(networks())
    loss = draw(st.sampled_from(["squared_error", "cross_entropy"]))
    case = Case("drawn", net, loss, draw(st.integers(1, 3)), draw(st.integers(4, 6)), draw(st.integers(3, 6)))
    return case, draw(st.integers(0, 99)), draw(st.booleans())


@EVERYDAY
@given(drawn=problems())
def test_meta_gradients_against_central_differences(drawn):
    """With the inner problem solved to rounding, and as many conjugate gradients as it takes."""
    case, seed, weighted = drawn
    theta, batch = case.make(seed=seed, weighted=weighted)
    strength = 200.0  # above the curvature of these losses: a well-posed problem
    learner = fm.iMAML(case.network, 1 / (1.5 * strength), 60, strength, 25, device="numpy")
    learner.fit(Fixed(batch), 0, theta=theta)
    errors = meta_gradient_errors(learner, batch, seed, lambda: next(learner.implicit_gradients(batch)))
    assert max(errors.values()) <= 1e-7


def converged(cg_steps):
    """A learner, its batch and the exact implicit gradient, by a dense solve, of a small problem solved to rounding."""
    case = Case("small", fm.MLP((2, 5, 2), "tanh"), tasks=3)
    theta, batch = case.make()
    net, strength = case.network, 0.5
    learner = fm.iMAML(net, 0.4, 400, strength, cg_steps, device="numpy").fit(Fixed(batch), 0, theta=theta)
    x, y = batch.x_support, batch.y_support
    phi = learner.adapt(x, y).theta
    stationary = fm.gradient(net, phi, x, y, device="numpy")[1] + strength * (phi - theta)
    assert np.abs(stationary).max() < 1e-14
    columns = [fm.hvp(net, phi, v, x, y, device="numpy") for v in np.eye(theta.size)]
    matrices = np.eye(theta.size) + np.stack(columns, axis=2) / strength
    slopes = fm.gradient(net, phi, batch.x_query, batch.y_query, device="numpy")[1]
    return learner, batch, np.linalg.solve(matrices, slopes[..., None])[..., 0].mean(axis=0)


@pytest.mark.parametrize("damping", [0.0, 3.0])
@pytest.mark.parametrize("proximal", ["inner", "after"])
def test_damped_gradients_solve_their_system(damping, proximal):
    """(I + H / (regularization + damping)) g = grad Q at phi, by a dense solve; phi wherever the steps led."""
    case, strength, rate = Case("small", fm.MLP((2, 5, 2), "tanh"), tasks=3), 0.5, 0.1
    theta, batch = case.make()
    learner = fm.iMAML(case.network, rate, 4, strength, 40, damping, proximal, device="numpy")
    learner.fit(Fixed(batch), 0, theta=theta)
    phi = learner.adapt(batch.x_support, batch.y_support).theta
    phi = phi - rate * strength * (phi - theta) if proximal == "after" else phi
    columns = [
        fm.hvp(case.network, phi, v, batch.x_support, batch.y_support, device="numpy") for v in np.eye(theta.size)
    ]
    matrices = np.eye(theta.size) + np.stack(columns, axis=2) / (strength + damping)
    losses, slopes = fm.gradient(case.network, phi, batch.x_query, batch.y_query, device="numpy")
    loss, gradients = learner.meta_gradients(batch)
    assert loss == losses.mean()
    assert relative(gradients["theta"], np.linalg.solve(matrices, slopes[..., None])[..., 0].mean(axis=0)) < 1e-12


def test_damping_meets_no_negative_curvature():
    """At theta I + H / regularization is not positive: the conjugate gradients stop. Damped, it is, and they end."""
    case = Case("small", fm.MLP((2, 5, 2), "tanh"), tasks=1)
    theta, batch = case.make()
    hessian = np.stack(
        [
            fm.hvp(case.network, theta, v, batch.x_support, batch.y_support, device="numpy")[0]
            for v in np.eye(theta.size)
        ]
    )
    lowest = np.linalg.eigvalsh(hessian)[0]
    assert lowest < 0
    strength = -lowest / 2  # I + H / strength is not positive
    slopes = fm.gradient(case.network, theta, batch.x_query, batch.y_query, device="numpy")[1]
    exact = {d: np.linalg.solve(np.eye(theta.size) + hessian / (strength + d), slopes[0]) for d in (0.0, 10 * strength)}
    for damping, solution in exact.items():
        learner = fm.iMAML(case.network, 1e-12, 1, strength, 60, damping, device="numpy").fit(
            Fixed(batch), 0, theta=theta
        )
        found = learner.meta_gradients(batch)[1]["theta"]
        assert (relative(found, solution) < 1e-9) == (damping > 0)


def test_error_falls_to_the_exact_gradient_over_conjugate_gradient_steps():
    learner, batch, exact = converged(cg_steps=25)
    _, *curve = learner.implicit_gradients(batch)
    errors = [relative(gradient, exact) for gradient in curve]
    assert errors[-1] < 1e-12
    assert all(later < 0.7 * sooner for sooner, later in zip(errors, errors[3:], strict=False) if sooner > 1e-11)
    found = meta_gradient_errors(learner, batch, loss=lambda: next(learner.implicit_gradients(batch)))
    assert max(found.values()) <= 1e-7


def test_memory_does_not_depend_on_inner_steps():
    net = fm.MLP((1, 40, 40, 1))
    tasks = fm.tasks.Sinusoid()
    batch, peaks = tasks.sample(20, seed=0), []
    for steps in (5, 5, 100):
        learner = fm.iMAML(net, 0.01, steps, device="numpy").fit(tasks, 0)
        tracemalloc.start()
        learner.meta_gradients(batch)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.02 * peaks[1]


def test_inner_steps_pull_back_to_theta():
    """With a huge regularization nothing moves; with next to none it is gradient descent."""
    case = Case("small", fm.MLP((2, 5, 2), "tanh"))
    theta, batch = case.make()
    x, y = batch.x_support, batch.y_support

    def adapted(inner_lr, regularization):
        learner = fm.iMAML(case.network, inner_lr, 10, regularization, device="numpy")
        return learner.fit(Fixed(batch), 0, theta=theta).adapt(x, y).theta

    assert np.abs(adapted(1e-7, 1e6) - theta).max() < 1e-5
    descended = fm.adapt(case.network, theta, x, y, 0.1, 10, device="numpy")
    assert relative(adapted(0.1, 1e-12), descended) < 1e-10


def test_with_the_proximal_term_after_them_inner_steps_are_gradient_descent():
    """One of their gradients, of a linear network with squared errors, worked out by hand."""
    net, rate, strength = fm.MLP((1, 1)), 0.1, 2.0
    x, y = np.array([[[1.0], [-1.0]]]), np.array([[[2.0], [0.0]]])  # L = mean over two samples of (w x + b - y)^2
    batch = fm.Batch(x, y, x, y)
    theta = np.zeros(2)
    learner = fm.iMAML(net, rate, 1, strength, 5, 3.0, "after", device="numpy").fit(Fixed(batch), 0, theta=theta)
    curvature = fm.hvp(net, theta, np.eye(2)[0], x, y, device="numpy")[0, 0]
    slope = fm.gradient(net, theta, x, y, device="numpy")[1][0]
    phi = theta - rate * slope
    np.testing.assert_allclose(learner.adapt(x[0], y[0]).theta, phi, rtol=1e-15)
    phi = phi * (1 - rate * strength)
    there = slope + curvature * phi  # the Hessian is `curvature` times I: x has mean 0 and mean square 1
    found = learner.meta_gradients(batch)[1]["theta"]
    np.testing.assert_allclose(found, there / (1 + curvature / (strength + 3.0)), rtol=1e-12)


def test_switches_are_saved(tmp_path):
    tasks = fm.tasks.Sinusoid()
    learner = fm.iMAML(fm.MLP((1, 4, 1)), 0.1, 2, 2.0, 2, 22.0, "after", device="numpy").fit(tasks, 2)
    learner.save(tmp_path / "run.safetensors")
    loaded = fm.load(tmp_path / "run.safetensors", device="numpy")
    assert (loaded.cg_damping, loaded.proximal) == (22.0, "after")
    batch = tasks.sample(2, seed=0)
    for name, values in learner.meta_gradients(batch)[1].items():
        np.testing.assert_array_equal(loaded.meta_gradients(batch)[1][name], values)


def test_conjugate_gradients_stop_where_they_must():
    matrices = np.stack([np.diag([1.0, 4.0, 9.0]), np.eye(3), np.diag([-1.0, -1.0, -1.0]), np.eye(3)])
    b = np.array([[1.0, 1.0, 1.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    *_, x = conjugate_gradients(lambda v: np.einsum("tij,tj->ti", matrices, v), b, steps=5)
    np.testing.assert_allclose(x[0], [1, 1 / 4, 1 / 9], rtol=1e-12)
    np.testing.assert_allclose(x[1], b[1], rtol=1e-15)
    np.testing.assert_array_equal(x[2:], 0.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inner_lr": -0.1}, r"inner_lr=-0\.1 must be positive"),
        ({"regularization": 0}, "regularization=0 must be positive"),
        ({"cg_steps": 0}, "cg_steps=0 must be at least 1"),
        ({"cg_damping": -1.0}, r"cg_damping=-1\.0 must be at least 0"),
        ({"cg_damping": np.inf}, "cg_damping=inf must be finite"),
        ({"proximal": "afer"}, 'proximal="afer" must be one of "inner", "after". Did you mean "after"?'),
        (
            {"inner_lr": 0.4, "regularization": 3, "proximal": "after"},
            r'regularization=3 must be at most 1 / inner_lr = 2\.5 with proximal="after"',
        ),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        fm.iMAML(fm.MLP((1, 1)), **arguments)


def test_conjugate_gradients_end_at_the_first_direction_of_negative_curvature():
    """Going on from there would lead away: in 5 steps to 9 times the length of the solution."""
    matrix, b = np.diag([-1.0, 2.0, 3.0]), np.ones((1, 3))
    path = list(conjugate_gradients(lambda v: v @ matrix, b, steps=5))
    np.testing.assert_allclose(path[0], [[0.75, 0.75, 0.75]])
    np.testing.assert_array_equal(path[0], path[-1])
