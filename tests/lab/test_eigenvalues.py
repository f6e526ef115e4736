"""Lanczos against dense eigenvalues, and the sharpness of inner steps against a quadratic's own."""

from __future__ import annotations

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.lab.eigenvalues import ends, lanczos


def symmetric(size: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((size, size))
    return (values + values.T) / 2


def test_extreme_eigenvalues_of_a_dense_hessian():
    net, batch = fm.MLP((1, 14, 14, 1), "tanh"), fm.tasks.Sinusoid().sample(1, seed=0)
    theta, size = net.init(0, "float64"), net.parameter_count

    def product(v: np.ndarray) -> np.ndarray:
        return fm.hvp(net, theta, v, batch.x_query[0], batch.y_query[0])

    dense = np.stack([product(row) for row in np.eye(size)])
    exact = np.linalg.eigvalsh(dense)
    found = fm.lab.spectrum(product, size, 40)
    assert found.largest == pytest.approx(exact[-1], rel=1e-8)
    assert found.smallest == pytest.approx(exact[0], rel=1e-8)
    assert found.weights.sum() == pytest.approx(1)
    nearest = np.abs(found.values[:, None] - exact).min(axis=1)
    assert (nearest <= found.residuals + 1e-9 * abs(exact).max()).all()


@pytest.mark.parametrize("size", [1, 2, 7, 63])
def test_all_products_give_all_eigenvalues(size):
    matrix = symmetric(size)
    found = fm.lab.spectrum(lambda v: matrix @ v, size, size + 5)
    np.testing.assert_allclose(found.values, np.linalg.eigvalsh(matrix), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("values", [(3.0,) * 6, (-2.0, -2.0, 5.0, 5.0, 5.0), (0.0, 0.0, 0.0), (4.0, 1.0, 1.0, 1.0)])
def test_few_different_eigenvalues_exhaust_the_space(values):
    matrix = np.diag(values)
    found = fm.lab.spectrum(lambda v: matrix @ v, len(values), len(values))
    np.testing.assert_allclose(found.values, sorted(set(values)), atol=1e-12)
    assert found.residuals.max() < 1e-10


@pytest.mark.parametrize("steps", [1, 2, 8, 40])
def test_ends_are_those_of_kept_vectors(steps):
    rng = np.random.default_rng(0)
    some = [symmetric(40), np.diag(np.repeat([-2.0, 1.0, 5.0], [10, 20, 10])), np.zeros((40, 40)), 3 * np.eye(40)]
    matrices, first = np.stack(some), rng.standard_normal((4, 40))

    def product(v: np.ndarray) -> np.ndarray:
        return (matrices @ v[:, :, None])[:, :, 0]

    values = np.linalg.eigvalsh(lanczos(product, first, steps)[0])
    np.testing.assert_allclose(ends(product, first, steps), values[:, [0, -1]].T, rtol=1e-10, atol=1e-12)
    narrow = ends(lambda v: product(v.astype("float64")).astype("float32"), first.astype("float32"), steps)
    np.testing.assert_allclose(narrow, values[:, [0, -1]].T, rtol=1e-5, atol=1e-5)
    with np.errstate(all="ignore"), pytest.raises(fm.DivergenceError, match="product is not finite"):
        ends(lambda v: v * np.inf, first, steps)


def quadratic(scales: tuple[float, ...] = (1.0, 2.0)) -> tuple[fm.Network, np.ndarray, fm.Batch]:
    """Two features and a bias that stays; one task a scale, whose Hessian is diag(1, 4) times its square."""
    net = fm.MLP((2, 1))
    x = np.stack([scale * np.diag([1.0, 2.0]) for scale in scales])  # mean squared error: Hessian x^T x
    y = np.ones((len(scales), 2, 1))
    return net, net.init(0, "float64"), fm.Batch(x, y, x, y)


def test_sharpness_of_a_quadratic():
    net, theta, batch = quadratic()
    found = fm.lab.inner_spectrum(net, theta, batch, [0.1, 0.0], 2, products=3)
    np.testing.assert_allclose(found.largest, np.tile([0.4, 1.6], (3, 1)), rtol=1e-10)
    np.testing.assert_allclose(found.smallest, np.tile([0.1, 0.4], (3, 1)), rtol=1e-10)
    steps = fm.lab.inner_spectrum(net, theta, batch, [[0.1, 0.0], [0.2, 0.0]], 2, products=2)
    np.testing.assert_allclose(steps.largest[:, 0], [0.4, 0.8, 0.8], rtol=1e-10)


@pytest.mark.parametrize("adapt", ["all", "head", "body"])
def test_sharpness_is_the_dense_hessians(adapt):
    net, batch = fm.MLP((1, 5, 1), "softplus"), fm.tasks.Sinusoid().sample(2, seed=0)
    theta = net.init(0, "float64")
    rates = np.random.default_rng(0).uniform(0.01, 0.2, net.parameter_count)
    found = fm.lab.inner_spectrum(net, theta, batch, rates, 1, adapt, products=net.parameter_count)
    moved = slice(*{"all": (0, 16), "head": net.head, "body": (0, 10)}[adapt])
    for task in range(2):
        x, y = batch.x_support[task], batch.y_support[task]
        dense = np.stack([fm.hvp(net, theta, row, x, y) for row in np.eye(16)])
        exact = np.linalg.eigvals((rates[:, None] * dense)[moved, moved]).real
        assert found.largest[0, task] == pytest.approx(exact.max(), rel=1e-6)
        assert found.smallest[0, task] == pytest.approx(exact.min(), rel=1e-6, abs=1e-9)


def test_sharpness_of_another_loss_and_of_weights():
    net, theta, batch = quadratic()
    half = fm.lab.inner_spectrum(net, theta, batch, [0.1, 0.0], products=3, loss=fm.Huber(1e6))  # e^2 / 2
    np.testing.assert_allclose(half.largest, np.tile([0.2, 0.8], (2, 1)), rtol=1e-10)
    weighted = fm.Batch(batch.x_support, batch.y_support, batch.x_query, batch.y_query, np.full((2, 2), 3.0))
    found = fm.lab.inner_spectrum(net, theta, weighted, [0.1, 0.0], products=3)
    np.testing.assert_allclose(found.largest, np.tile([1.2, 4.8], (2, 1)), rtol=1e-10)


def test_one_rate_is_that_rate_for_each_parameter():
    net, batch = fm.MLP((1, 8, 1), "tanh"), fm.tasks.Sinusoid().sample(3, seed=0)
    theta = net.init(0, "float64")
    one, each = (
        fm.lab.inner_spectrum(net, theta, batch, r, 2) for r in (0.02, np.full((2, net.parameter_count), 0.02))
    )
    varied = np.full((2, net.parameter_count), 0.02)
    varied[0, 0] *= 1 + 1e-12
    for other in (each, fm.lab.inner_spectrum(net, theta, batch, varied, 2)):
        np.testing.assert_allclose(one.largest, other.largest, rtol=1e-9)
        np.testing.assert_allclose(one.smallest, other.smallest, rtol=1e-9)


def test_tables_pictures_and_errors(tmp_path):
    pytest.importorskip("matplotlib")
    net, theta, batch = quadratic()
    found = fm.lab.inner_spectrum(net, theta, batch, 0.1, 2)
    assert len(found.table().splitlines()) == 4
    found.plot(tmp_path / "sharpness.png")
    values = fm.lab.spectrum(lambda v: v * np.array([1.0, 2.0]), 2)
    assert len(values.table().splitlines()) == 3
    values.plot(tmp_path / "spectrum.png")
    assert all((tmp_path / name).stat().st_size > 5_000 for name in ("sharpness.png", "spectrum.png"))
    with pytest.raises(ValueError, match="inner_lr must not be negative"):
        fm.lab.inner_spectrum(net, theta, batch, [0.1, -0.1])
    with pytest.raises(ValueError, match="inner_steps=0 must be at least 1"):
        fm.lab.inner_spectrum(net, theta, batch, 0.1, 0)
