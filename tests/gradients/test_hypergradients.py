"""Gradients through the inner loop by what is not theta: support weights, weight decay, proximal term; and by task."""

from dataclasses import replace

import numpy as np
import pytest

from fastmeta import MLP, adapt, meta_gradient
from fastmeta.gradients.task_sets import batch_sets
from fastmeta_kernels import reference
from tests.cases import CASES, Case
from tests.gradcheck import relative
from tests.kernels.agreement import BY_NAME, inner_loop, named, sets

SMOOTH = [case for case in CASES if case.smooth]
STEP = 1e-30


def _batch(case, weighted=True):
    return case.make("float64", 0, weighted)


@pytest.mark.parametrize("case", SMOOTH, ids=named)
def test_slopes_of_the_weights_are_those_of_a_complex_step(case):
    net = case.network
    theta, support, query = sets(case, weighted=True)
    inner = inner_loop(net, "float64", "arrays", steps=3)._replace(pulls=(0.3, 0.2))
    found = reference.meta_gradient(net.table, theta, support, query, inner, each_weight=True).weights_gradient
    direction = np.random.default_rng(0).standard_normal(support.weights.shape)
    shifted = support._replace(weights=support.weights + 1j * STEP * direction)
    loop = inner._replace(rates=inner.rates.astype(complex))
    losses = reference.meta_gradient(net.table, theta.astype(complex), shifted, query, loop).query_losses
    assert relative((found * direction).sum(), losses.mean().imag / STEP) <= 1e-11


@pytest.mark.parametrize("adapts", ["all", "head"])
def test_slopes_of_the_pulls_are_those_of_a_complex_step(adapts):
    net = MLP((3, 5, 2), "tanh")
    theta, support, query = sets(Case("pulls", net, "squared_error"))
    for steps in (0, 1, 4):
        inner = inner_loop(net, "float64", "parameters", adapts, steps)._replace(pulls=(0.4, 0.7))
        found = reference.meta_gradient(net.table, theta, support, query, inner)

        def loss(start=theta, inner=inner, **changed):
            loop = inner._replace(rates=inner.rates.astype(complex), **changed)
            losses = reference.meta_gradient(net.table, start.astype(complex), support, query, loop).query_losses
            return losses.mean().imag / STEP

        assert abs(found.pulls_gradient[0] - loss(pulls=(0.4 + 1j * STEP, 0.7))) <= 1e-13
        assert abs(found.pulls_gradient[1] - loss(pulls=(0.4, 0.7 + 1j * STEP))) <= 1e-13
        v = np.random.default_rng(0).standard_normal(theta.shape)
        assert relative(found.gradient @ v, loss(theta + 1j * STEP * v)) <= 1e-12


def test_pulled_steps_are_gradient_descent_on_the_pulled_loss():
    net = MLP((2, 4, 1), "tanh")
    theta, batch = Case("pulls", net, "squared_error").make("float64", 0, False)
    x, y = batch.x_support, batch.y_support
    phi = np.tile(theta, (len(x), 1))
    for _ in range(3):
        _, slope = reference.gradient(net.table, phi, batch_sets(net, batch, theta.dtype)[0])
        phi = phi - 0.1 * (slope + 0.3 * phi + 0.5 * (phi - theta))
    found = adapt(net, theta, x, y, 0.1, 3, weight_decay=0.3, proximal=0.5, device="numpy")
    assert relative(found, phi) <= 1e-13


def test_public_slopes_agree_with_central_differences():
    case = BY_NAME["mlp_odd_softplus"]
    net, h = case.network, 1e-5
    theta, batch = _batch(case)
    options = {"inner_lr": 0.1, "inner_steps": 3, "device": "numpy", "weight_decay": 0.2, "proximal": 0.3}
    found = meta_gradient(net, theta, batch, **options, each_weight=True, each_task=True)
    direction = np.random.default_rng(1).standard_normal(batch.support_weights.shape)
    moved = [replace(batch, support_weights=batch.support_weights + s * h * direction) for s in (1, -1)]
    up, down = (meta_gradient(net, theta, one, **options).loss for one in moved)
    assert relative((found.weights_gradient * direction).sum(), (up - down) / (2 * h)) <= 1e-8
    for name, slope in (("weight_decay", found.weight_decay_gradient), ("proximal", found.proximal_gradient)):
        shifted = (meta_gradient(net, theta, batch, **(options | {name: options[name] + s * h})) for s in (1, -1))
        up, down = (one.loss for one in shifted)
        assert relative(slope, (up - down) / (2 * h)) <= 1e-8
    assert relative(found.task_gradients.mean(axis=0), found.gradient) <= 1e-14


def test_bad_arguments_say_what_to_do():
    net = MLP((2, 3, 2))
    theta, batch = Case("bad", net).make("float64", 0, False)
    for name in ("weight_decay", "proximal"):
        with pytest.raises(ValueError, match=f"{name}=-1 must be at least 0"):
            adapt(net, theta, batch.x_support, batch.y_support, **{name: -1}, device="numpy")
    with pytest.raises(ValueError, match="each_weight=True must come with order=2"):
        meta_gradient(net, theta, batch, order=1, each_weight=True)
    with pytest.raises(TypeError, match="each_task"):
        meta_gradient(net, theta, batch, each_task=2)
