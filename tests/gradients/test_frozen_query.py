"""Training with the support set's statistics in the query loss: exact through them, and the same on every backend."""

from __future__ import annotations

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.gradients.frozen_query import frozen_meta_gradient, query_gradient
from fastmeta.gradients.task_sets import batch_sets
from fastmeta.networks.frozen_norms import frozen
from fastmeta_kernels.layer_table import blocks
from tests.algorithms.learners import Fixed, meta_gradient_errors
from tests.gradcheck import relative

NETWORKS = {
    "images": fm.Network(
        [
            fm.Conv2d(3), fm.BatchNorm(), fm.Tanh(),
            fm.Conv2d(4, stride=2), fm.BatchNorm(), fm.Softplus(),
            fm.Flatten(), fm.Linear(3),
        ],
        (6, 6, 1),
    ),
    "features, normed first": fm.Network(
        [fm.BatchNorm(), fm.Linear(7), fm.BatchNorm(), fm.Tanh(), fm.Linear(3)], (5,)
    ),
}  # fmt: skip


def a_batch(net: fm.Network, tasks: int = 3) -> fm.Batch:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, tasks, 6, *net.input_shape))
    labels = np.tile(np.arange(6) % 3, (tasks, 1))
    weights = rng.uniform(0.5, 1.5, (tasks, 6))
    return fm.Batch(x[0], labels, x[1], labels, weights, weights[:, ::-1].copy())


def rates(net: fm.Network, kind: str) -> object:
    rng = np.random.default_rng(2)
    arrays = len(blocks(net.table)) - 1
    shapes = {"array": (arrays,), "step": (2, 1), "step and array": (2, arrays), "parameter": (net.parameter_count,)}
    return 0.05 if kind == "number" else rng.uniform(0.02, 0.08, shapes[kind])


@pytest.mark.parametrize("kind", ["number", "step", "array", "step and array", "parameter"])
@pytest.mark.parametrize("name", NETWORKS)
def test_theta_and_rates_against_differences(name, kind):
    net = NETWORKS[name]
    learner = fm.MAML(net, rates(net, kind), 2, learn_inner_lr=True, device="numpy", query_batch_norm="frozen")
    batch = a_batch(net)
    learner.fit(Fixed(batch), 0, theta=net.init(dtype="float64"))
    assert max(meta_gradient_errors(learner, batch).values()) < 1e-7


LEARNERS = {
    "ANIL": lambda net: fm.ANIL(net, 0.1, 3, learn_inner_lr=True, device="numpy", query_batch_norm="frozen"),
    "BOIL": lambda net: fm.BOIL(net, 0.1, 2, learn_inner_lr=True, device="numpy", query_batch_norm="frozen"),
    "Meta-SGD": lambda net: fm.MetaSGD(net, 0.05, 1, device="numpy", query_batch_norm="frozen"),
}


@pytest.mark.parametrize("kind", LEARNERS)
def test_every_learner_against_differences(kind):
    net = NETWORKS["images"]
    learner = LEARNERS[kind](net).fit(Fixed(a_batch(net)), 0, theta=net.init(dtype="float64"))
    assert max(meta_gradient_errors(learner, a_batch(net)).values()) < 1e-7


def test_first_order_is_the_query_gradient_alone():
    net = NETWORKS["images"]
    theta, batch = net.init(dtype="float64"), a_batch(net)
    support, query = batch_sets(net, batch, theta.dtype)
    phi = fm.adapt(net, theta, batch.x_support, batch.y_support, 0.05, 2, weights=batch.support_weights, device="numpy")
    losses, slopes = query_gradient(net, phi, support.x, query, "numpy")
    found = frozen_meta_gradient(net, theta, batch, 0.05, 2, order=1, device="numpy")
    assert relative(found.gradient, slopes.mean(axis=0)) < 1e-14
    assert np.allclose(found.query_losses, losses, rtol=1e-14)
    learner = fm.FOMAML(net, 0.05, 2, device="numpy", query_batch_norm="frozen").fit(Fixed(batch), 0, theta=theta)
    assert relative(learner.meta_gradients(batch)[1]["theta"], found.gradient) < 1e-14


def test_its_loss_is_that_of_the_frozen_model():
    net = NETWORKS["images"]
    theta, batch = net.init(dtype="float64"), a_batch(net)
    found = frozen_meta_gradient(net, theta, batch, 0.05, 2, device="numpy")
    for t in range(3):
        data = batch.x_support[t], batch.y_support[t]
        phi = fm.adapt(net, theta, *data, 0.05, 2, weights=batch.support_weights[t], device="numpy")
        affine, own = frozen(net, phi, batch.x_support[t], "numpy")
        value = fm.loss(affine, own, batch.x_query[t], batch.y_query[t], batch.query_weights[t], device="numpy")
        assert np.isclose(found.query_losses[t], value, rtol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_without_inner_movement_repeated_queries_give_the_transductive_loss(name):
    """A query set that is the support set meets its own statistics."""
    net = NETWORKS[name]
    batch = a_batch(net)
    same = fm.Batch(batch.x_support, batch.y_support, batch.x_support, batch.y_support)
    theta = net.init(dtype="float64")
    found = frozen_meta_gradient(net, theta, same, 0.05, 2, device="numpy")
    usual = fm.meta_gradient(net, theta, same, 0.05, 2, device="numpy")
    assert np.isclose(found.loss, usual.loss, rtol=1e-12)
    assert relative(found.gradient, usual.gradient) < 1e-10
    assert np.isclose(found.inner_lr_gradient, usual.inner_lr_gradient, rtol=1e-9)


@pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-11), ("float32", 3e-5)])
def test_cpu_equals_the_reference(dtype, bound):
    net = NETWORKS["images"]
    theta, batch = net.init(dtype=dtype), a_batch(net)
    one, other = (frozen_meta_gradient(net, theta, batch, 0.05, 2, device=device) for device in ("numpy", "cpu"))
    assert other.gradient.dtype == dtype
    assert relative(other.gradient, one.gradient) < bound
    assert relative(other.inner_lr_gradient, one.inner_lr_gradient) < bound


def test_imaml_solves_for_the_frozen_query_loss():
    net = NETWORKS["features, normed first"]
    batch = a_batch(net)
    settings = {"inner_steps": 4, "regularization": 3.0, "cg_steps": 60, "device": "numpy"}
    learner = fm.iMAML(net, 0.05, **settings, query_batch_norm="frozen")
    learner.fit(Fixed(batch), 0, theta=net.init(dtype="float64"))
    loss, slopes = learner.meta_gradients(batch)
    support, query = batch_sets(net, batch, learner.theta.dtype)
    (phi,) = learner.descend(*support[:3], [4])
    losses, right = query_gradient(net, phi, support.x, query, "numpy")
    identity = np.eye(net.parameter_count)
    solved = []
    for t in range(3):
        data = batch.x_support[t], batch.y_support[t], batch.support_weights[t]
        hessian = np.stack([fm.hvp(net, phi[t], v, *data, device="numpy") for v in identity], axis=1)
        solved.append(np.linalg.solve(identity + hessian / 3.0, right[t]))
    assert np.isclose(loss, losses.mean())
    assert relative(slopes["theta"], np.mean(solved, axis=0)) < 1e-6


def test_it_is_kept_with_the_learner_and_is_how_it_predicts(tmp_path):
    net = NETWORKS["images"]
    tasks = Fixed(a_batch(net, tasks=1))
    learner = fm.MAML(net, 0.05, 2, device="numpy", query_batch_norm="frozen").fit(tasks, 3)
    again = fm.load(_saved(learner, tmp_path), device="numpy")
    assert again.query_batch_norm == "frozen"
    score = again.evaluate(tasks, episodes=1)
    assert score.batch_norm == "frozen"
    assert again.evaluate(tasks, episodes=1, batch_norm="transductive").batch_norm == "transductive"
    usual = fm.MAML(net, 0.05, 2, device="numpy").fit(tasks, 3)
    assert "query_batch_norm" not in usual.hyper_parameters()
    assert relative(usual.theta, learner.theta) > 1e-6
    named = fm.MAML(net, 0.05, 2, device="numpy", query_batch_norm="transductive").fit(tasks, 3)
    np.testing.assert_array_equal(named.theta, usual.theta)


def _saved(learner, folder):
    learner.save(folder / "frozen.safetensors")
    return folder / "frozen.safetensors"


def test_bad_input():
    with pytest.raises(ValueError, match=r'query_batch_norm="frozen" must be left out: .* has no batch norm'):
        fm.MAML(fm.MLP((1, 4, 1)), query_batch_norm="frozen")
    with pytest.raises(ValueError, match='query_batch_norm="support" must be'):
        fm.MAML(NETWORKS["images"], query_batch_norm="support")
    with pytest.raises(ValueError, match=r'must be trained with device="cpu" or "numpy"'):
        fm.MAML(NETWORKS["images"], query_batch_norm="frozen", device="cuda")
    net = NETWORKS["images"]
    batch = a_batch(net)
    with pytest.raises(fm.DivergenceError, match="Scale the data"):
        frozen_meta_gradient(net, np.full(net.parameter_count, 1e180), batch, 0.05, 2, device="numpy")
