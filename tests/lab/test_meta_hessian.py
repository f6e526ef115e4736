"""Products with the meta-loss's Hessian: symmetric, and the differences of the meta-gradient."""

from __future__ import annotations

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.lab.central_differences import kink_pattern
from tests.cases import CASES
from tests.gradcheck import derivative


def smooth_width(case, theta, v, batch, steps):
    """Widest step along v whose two ends cross no kink of the inner loop and the query pass."""

    def sides(e):
        phis = fm.lab.trace(case.network, theta + e * v, batch, 0.05, steps, device="numpy").phis
        seen = [batch.x_support] * steps + [batch.x_query]
        return [kink_pattern(case.network.table, phi, x) for phi, x in zip(phis, seen, strict=True)]

    middle, width = sides(0.0), 1e-3
    while not sides(width) == middle == sides(-width):
        width /= 4
    return width


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_layer_is_analytic(case, steps):
    theta, batch = case.make(weighted=True)
    u, w = np.random.default_rng(0).standard_normal((2, theta.size))
    hu, hw = (fm.lab.meta_hvp(case.network, theta, d, batch, 0.05, steps) for d in (u, w))
    assert abs(w @ hu - u @ hw) <= 1e-12 * max(abs(w @ hu), np.linalg.norm(w) * np.linalg.norm(hu))

    def gradient(e):
        return fm.meta_gradient(case.network, theta + e * u, batch, 0.05, steps, device="numpy").gradient

    width = smooth_width(case, theta, u, batch, steps)
    expected = derivative(gradient, width, levels=5 if width > 1e-4 else 2)  # where it is narrow, rounding is most
    assert np.linalg.norm(hu - expected) <= 1e-8 * np.linalg.norm(expected) + 1e-12 * np.linalg.norm(u)


def test_without_inner_steps_it_is_the_hessian():
    net, batch = fm.MLP((1, 6, 1), "softplus"), fm.tasks.Sinusoid().sample(3, seed=0)
    theta = net.init(0, "float64")
    v = np.random.default_rng(0).standard_normal(theta.size)
    plain = fm.hvp(net, theta, v, batch.x_query, batch.y_query).mean(axis=0)
    np.testing.assert_allclose(fm.lab.meta_hvp(net, theta, v, batch, inner_steps=0), plain, rtol=1e-12, atol=1e-14)


def test_of_a_loss_with_sides():
    net, batch, huber = fm.MLP((1, 6, 1), "softplus"), fm.tasks.Sinusoid().sample(3, seed=0), fm.Huber(0.7)
    theta = net.init(0, "float64")
    v = np.random.default_rng(0).standard_normal(theta.size)
    ends = [fm.meta_gradient(net, theta + s * 1e-6 * v, batch, 0.05, 3, loss=huber).gradient for s in (1, -1)]
    found = fm.lab.meta_hvp(net, theta, v, batch, 0.05, 3, loss=huber)
    np.testing.assert_allclose(found, (ends[0] - ends[1]) / 2e-6, rtol=1e-6, atol=1e-8)
    assert np.linalg.norm(found - fm.lab.meta_hvp(net, theta, v, batch, 0.05, 3)) > 0.1 * np.linalg.norm(found)


def test_errors_say_what_to_do():
    net, batch = fm.MLP((1, 6, 1)), fm.tasks.Sinusoid().sample(3, seed=0)
    with pytest.raises(ValueError, match=r"v of shape \(3,\) must be \(19,\)"):
        fm.lab.meta_hvp(net, net.init(0), np.ones(3), batch)
