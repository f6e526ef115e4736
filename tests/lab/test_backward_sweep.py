"""The backward sweep against the engine's meta-gradient, and Reptile's Taylor terms against their theory."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

import fastmeta as fm

SINE = fm.tasks.Sinusoid(shots=5, queries=7)


def setting(activation: str = "tanh", tasks: int = 4) -> tuple[fm.Network, np.ndarray, fm.Batch]:
    net = fm.MLP((1, 8, 8, 1), activation)
    return net, net.init(0, "float64"), SINE.sample(tasks, seed=0)


@pytest.mark.parametrize("activation", ["tanh", "relu", "softplus"])
@pytest.mark.parametrize("adapt", ["all", "head", "body"])
@pytest.mark.parametrize("rates", ["number", "by step", "by array", "by parameter"])
def test_the_sweep_is_the_engines_gradient(activation, adapt, rates):
    net, theta, batch = setting(activation)
    rng = np.random.default_rng(1)
    shapes = {"by step": (3, 1), "by array": (len(net.parameter_shapes),), "by parameter": (3, net.parameter_count)}
    inner_lr = 0.05 if rates == "number" else rng.uniform(-0.02, 0.08, shapes[rates])
    found = fm.lab.trace(net, theta, batch, inner_lr, 3, adapt)
    exact = fm.meta_gradient(net, theta, batch, inner_lr, 3, adapt=adapt)
    first = fm.meta_gradient(net, theta, batch, inner_lr, 3, order=1, adapt=adapt)
    scale = np.linalg.norm(exact.gradient)
    assert np.linalg.norm(found.exact - exact.gradient) < 1e-13 * scale
    assert np.linalg.norm(found.first_order - first.gradient) < 1e-13 * scale
    assert np.linalg.norm(found.terms.sum(axis=0) - found.exact) < 1e-13 * scale
    assert np.linalg.norm(found.tasks.mean(axis=0) - found.exact) < 1e-14 * scale
    np.testing.assert_allclose(found.support_losses.T, exact.support_losses, rtol=1e-13)
    np.testing.assert_allclose(found.query_losses, exact.query_losses, rtol=1e-13)


@pytest.mark.parametrize("loss", [None, fm.Huber(0.3)], ids=["squared", "huber"])
def test_the_sweep_has_the_loss_and_the_weights(loss):
    net, theta, batch = setting()
    rng = np.random.default_rng(2)
    weights = (rng.uniform(0, 2, y.shape[:2]) for y in (batch.y_support, batch.y_query))
    batch = fm.Batch(batch.x_support, batch.y_support, batch.x_query, batch.y_query, *weights)
    found = fm.lab.trace(net, theta, batch, 0.05, 3, loss=loss)
    exact = fm.meta_gradient(net, theta, batch, 0.05, 3, loss=loss)
    assert np.linalg.norm(found.exact - exact.gradient) < 1e-13 * np.linalg.norm(exact.gradient)
    np.testing.assert_allclose(found.query_losses, exact.query_losses, rtol=1e-13)


def test_each_task_has_its_own_gradient():
    net, theta, batch = setting()
    found = fm.lab.trace(net, theta, batch, 0.05, 3)
    for task in range(len(batch)):
        one = fm.Batch(*(a[task : task + 1] for a in (batch.x_support, batch.y_support, batch.x_query, batch.y_query)))
        alone = fm.meta_gradient(net, theta, one, 0.05, 3).gradient
        np.testing.assert_allclose(found.tasks[task], alone, rtol=1e-12, atol=1e-14)
    variances = found.tasks.var(axis=0, ddof=1).sum()
    assert found.snr == pytest.approx((found.exact**2).sum() / variances)
    assert np.allclose(np.diag(found.task_cosines), 1)


def test_truncation_on_a_quadratic_decays_by_its_slowest_factor():
    """L = |phi - c|_D^2 / 2: the gradient through the last m steps is (1 - alpha d)^m of grad Q, exactly."""
    net = fm.MLP((3, 1))
    curvature = np.array([0.5, 1.0, 2.0])
    x = np.diag(np.sqrt(3 * curvature / 2))[None]  # mean squared error: Hessian 2 / 3 x^T x
    y = np.ones((1, 3, 1))
    theta = np.array([0.3, -0.2, 0.7, 0.0])  # three weights and a bias, which stays
    batch = fm.Batch(x, y, x, 2 * y)
    found = fm.lab.trace(net, theta, batch, [0.4, 0.0], 5)
    for m in range(6):
        expected = (1 - 0.4 * curvature) ** m * found.first_order[:3]
        np.testing.assert_allclose(found.truncated(m)[:3], expected, rtol=1e-13)
    assert found.errors()[-1] == 0
    assert found.cosines()[-1] == pytest.approx(1)


def test_taylor_terms_of_reptile():
    """MAML, FOMAML and Reptile hold 2(k-1), k-1 and k(k-1)/2 AvgGradInner (Nichol et al. 2018, section 5), k = 4."""
    net, theta, batch = setting(tasks=4)
    parts = [(batch.x_support[i : i + 1], batch.y_support[i : i + 1]) for i in range(4)]
    gradients = [fm.gradient(net, theta[None], *part)[1][0] for part in parts]
    mean = sum(gradients) / 4
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    inner = sum(fm.hvp(net, theta[None], gradients[j][None], *parts[i])[0] for i, j in pairs) / len(pairs)
    alpha, orders = 1e-4, list(permutations(range(4)))
    totals = {"MAML": 0.0, "FOMAML": 0.0, "Reptile": 0.0}
    for order in orders:
        x, y = parts[order[3]]
        last = fm.Batch(x, y, x, y)
        found = fm.lab.trace(net, theta, last, alpha, 3, support=lambda k, order=order: parts[order[k]])
        totals["MAML"] += found.exact / len(orders)
        totals["FOMAML"] += found.first_order / len(orders)
        steps = (theta - found.phis[-1, 0]) / alpha + found.first_order
        totals["Reptile"] += steps / len(orders)
    for name, first, expected in (("MAML", 1, 6), ("FOMAML", 1, 3), ("Reptile", 4, 6)):
        change = (first * mean - totals[name]) / alpha
        assert change @ inner / (inner @ inner) == pytest.approx(expected, rel=0.02), name


def test_tables_and_picture(tmp_path):
    pytest.importorskip("matplotlib")
    net, theta, batch = setting()
    found = fm.lab.trace(net, theta, batch, 0.05, 3)
    assert len(found.table().splitlines()) == 5
    assert [line.split()[0] for line in found.table(by="array").splitlines()[1:]] == list(net.parameter_shapes)
    found.plot(tmp_path / "trace.png")
    assert (tmp_path / "trace.png").stat().st_size > 10_000


def test_errors_say_what_to_do():
    net, theta, batch = setting()
    with pytest.raises(ValueError, match="steps=4 must be at most 3"):
        fm.lab.trace(net, theta, batch, 0.05, 3).truncated(4)
    with pytest.raises(ValueError, match='by="layer" must be one of "step", "array"'):
        fm.lab.trace(net, theta, batch, 0.05, 3).table(by="layer")
    with pytest.raises(fm.DivergenceError):
        fm.lab.trace(net, theta, batch, 1e200, 3)
    with pytest.raises(TypeError, match="batch must be a fastmeta"):
        fm.lab.trace(net, theta, (batch.x_support, batch.y_support))
