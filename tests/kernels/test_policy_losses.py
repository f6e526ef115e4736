"""Policy losses, the layer Append and Fisher products of the reference: against central differences in float64."""

from __future__ import annotations

import numpy as np
import pytest

import fastmeta as fm
from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.contract import Loss, TaskSet
from fastmeta_kernels.reference import policy_losses

T, N, A = 2, 6, 3
CASES = [(policy, surrogate) for policy in lt.POLICIES for surrogate in lt.SURROGATES]


def _set(policy, surrogate, seed=3):
    rng = np.random.default_rng(seed)
    outputs = 2 * A if policy == "gaussian" else A
    z = 0.7 * rng.normal(size=(T, N, outputs))
    actions = rng.normal(size=(T, N, A)) if policy == "gaussian" else rng.integers(0, A, (T, N))
    y = 0.7 * rng.normal(size=z.shape) if surrogate == "kl" else actions
    loss = Loss(lt.POLICY, (lt.POLICIES.index(policy), lt.SURROGATES.index(surrogate), 0.2))
    data = TaskSet(np.zeros((T, N, 1)), y, rng.normal(size=(T, N)), loss)
    own = _probabilities(policy, z, actions)
    return z, data._replace(log_probs=own + rng.normal(0, 0.3, own.shape))


def _probabilities(policy, z, actions):
    if policy == "categorical":
        logs = z - np.log(np.exp(z).sum(axis=2, keepdims=True))
        return np.take_along_axis(logs, actions[..., None], axis=2)[..., 0]
    mu, s = z[..., :A], z[..., A:]
    density = np.exp(-((actions - mu) ** 2) / (2 * np.exp(2 * s))) / np.sqrt(2 * np.pi * np.exp(2 * s))
    return np.log(density.prod(axis=2))


def _losses(policy, surrogate, z, data):
    """The losses (T,) once more, from probabilities."""
    if surrogate == "kl":
        if policy == "categorical":
            p, q = (np.exp(a) / np.exp(a).sum(axis=2, keepdims=True) for a in (data.y, z))
            values = (p * np.log(p / q)).sum(axis=2)
        else:
            (m0, s0), (m, s) = ((a[..., :A], np.exp(a[..., A:])) for a in (data.y, z))
            values = (np.log(s / s0) + (s0**2 + (m - m0) ** 2) / (2 * s**2) - 0.5).sum(axis=2)
        return (data.weights * values).mean(axis=1)
    logs = _probabilities(policy, z, data.y)
    if surrogate == "log":
        return -(data.weights * logs).mean(axis=1)
    rho, w = np.exp(logs - data.log_probs), data.weights
    reward = rho * w if surrogate == "ratio" else np.minimum(rho * w, np.clip(rho, 0.8, 1.2) * w)
    return -reward.mean(axis=1)


@pytest.mark.parametrize(("policy", "surrogate"), CASES)
def test_values_are_those_of_the_probabilities(policy, surrogate):
    z, data = _set(policy, surrogate)
    assert np.abs(policy_losses.forward(z, data) - _losses(policy, surrogate, z, data)).max() < 1e-12


@pytest.mark.parametrize(("policy", "surrogate"), CASES)
def test_slopes_and_their_tangents(policy, surrogate):
    z, data = _set(policy, surrogate)
    e, dz = 1e-5, policy_losses.backward(z, data)
    size = max(1, np.abs(dz).max())
    for place in np.ndindex(z.shape):
        moved = np.zeros_like(z)
        moved[place] = e
        ends = [policy_losses.forward(z + sign * moved, data)[place[0]] for sign in (1, -1)]
        assert abs(dz[place] - (ends[0] - ends[1]) / (2 * e)) < 1e-8 * size
    direction = np.random.default_rng(1).normal(size=z.shape)
    up, down = (policy_losses.backward(z + sign * e * direction, data) for sign in (1, -1))
    found = policy_losses.backward_tangent(z, direction, data)
    assert np.abs(found - (up - down) / (2 * e)).max() < 1e-8 * max(1, np.abs(found).max())


def test_clipping_cuts_some_and_not_all():
    z, data = _set("gaussian", "clip")
    slopes = np.abs(policy_losses.backward(z, data)).sum(axis=2)
    assert 0 < (slopes == 0).sum() < slopes.size


@pytest.mark.parametrize("policy", lt.POLICIES)
def test_fisher_is_the_hessian_of_the_divergence_at_its_own_outputs(policy):
    make = fm.rl.gaussian_policy if policy == "gaussian" else fm.rl.categorical_policy
    net, rng = make(4, 2, hidden=(5, 3), activation="tanh"), np.random.default_rng(0)
    theta = net.init(0, dtype="float64") + 0.2 * rng.normal(size=(T, net.parameter_count))
    v, x, weights = rng.normal(size=theta.shape), rng.normal(size=(T, N, 4)), rng.random((T, N))
    old = net.predict(theta, x, device="numpy")
    found = fm.fisher(net, theta, v, x, weights, policy=policy)
    wanted = fm.hvp(net, theta, v, x, old, weights, loss=fm.PolicyLoss(policy, "kl"), device="numpy")
    assert np.abs(found - wanted).max() < 1e-12 * max(1, np.abs(wanted).max())
    assert np.abs(fm.fisher(net, theta[0], v[0], x[0], weights[0], policy=policy) - found[0]).max() < 1e-14


def test_append_gives_its_values_to_every_sample():
    net = fm.Network([fm.Linear(3), fm.Tanh(), fm.Linear(2), fm.Append(2, start=-0.5)], (4,))
    theta, x = net.init(0, "float64"), np.random.default_rng(0).normal(size=(T, N, 4))
    assert list(net.parameter_shapes)[-1] == "append1.values"
    assert (net.predict(theta, x, device="numpy")[..., 2:] == -0.5).all()
    assert net.head == (15, 25)
    y, v = np.random.default_rng(1).normal(size=(T, N, 4)), np.random.default_rng(2).normal(size=theta.shape)
    _, slope = fm.gradient(net, theta, x[0], y[0], device="numpy")
    ends = [fm.gradient(net, theta + sign * 1e-6 * v, x[0], y[0], device="numpy") for sign in (1, -1)]
    assert abs(slope @ v - (ends[0][0] - ends[1][0]) / 2e-6) < 1e-8
    product = fm.hvp(net, theta, v, x[0], y[0], device="numpy")
    assert np.abs(product - (ends[0][1] - ends[1][1]) / 2e-6).max() < 1e-8
    batch = fm.Batch(x, y, x, y)
    assert fm.check_meta_gradient(net, theta, batch, inner_steps=2, device="numpy").worst.error < 1e-7


@pytest.mark.parametrize("device", ["numpy", "cpu"])
@pytest.mark.parametrize("surrogate", ["log", "kl"])
def test_meta_gradients_of_batches_take_policy_losses(device, surrogate):
    net, rng = fm.rl.gaussian_policy(4, 2, (5,), "tanh"), np.random.default_rng(0)
    x, wide = rng.normal(size=(2, T, N, 4)), 4 if surrogate == "kl" else 2
    y = rng.normal(size=(2, T, N, wide))
    options = {"inner_steps": 2, "device": device, "loss": fm.PolicyLoss("gaussian", surrogate)}
    theta = net.init(0, "float64")
    report = fm.check_meta_gradient(net, theta, fm.Batch(x[0], y[0], x[1], y[1]), **options)
    assert report.worst.error < 1e-7


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_pullback_is_the_gradient_of_a_loss_of_one_s_own(device):
    net = fm.MLP((2, 4, 1), activation="tanh")
    theta, x = net.init(0, "float64"), np.random.default_rng(0).normal(size=(T, N, 2))
    slopes = np.sign(net.predict(theta, x, device="numpy")) / N  # of the mean of |outputs|
    found = fm.pullback(net, theta, x, slopes, device=device)
    v, e = np.random.default_rng(1).normal(size=theta.shape), 1e-6
    ends = [np.abs(net.predict(theta + sign * e * v, x, device="numpy")).mean(axis=(1, 2)) for sign in (1, -1)]
    assert np.abs(found @ v - (ends[0] - ends[1]) / (2 * e)).max() < 1e-8
    assert np.allclose(fm.pullback(net, theta, x[0], slopes[0], device=device), found[0])
    with pytest.raises(ValueError, match=r"d_outputs of shape \(2, 6\) must be numbers of shape \(2, 6, 1\)"):
        fm.pullback(net, theta, x, slopes[..., 0], device=device)


NET = fm.Network([fm.Linear(2), fm.Append(2)], (2,))
X, ACTIONS, LOGS = np.zeros((T, N, 2)), np.zeros((T, N, 2)), np.zeros((T, N))


@pytest.mark.parametrize(
    ("net", "loss", "y", "options", "error", "said"),
    [
        (NET, ("gaussian", "ratio"), ACTIONS, {}, ValueError, "log_probs must be given for PolicyLoss"),
        (NET, ("gaussian", "log"), ACTIONS, {"log_probs": LOGS}, ValueError, "log_probs must be left out for"),
        (NET, ("gaussian", "clip"), ACTIONS, {"log_probs": LOGS[:, :1]}, ValueError, r"log_probs of shape \(2, 1\)"),
        (NET, ("gaussian", "log"), X[..., :1], {}, ValueError, r"y of shape \(2, 6, 1\) must be \(2, 6, 2\)"),
        (NET, ("gaussian", "log"), np.zeros((T, N), int), {}, TypeError, "y of dtype int64 must be floats"),
        (NET, ("gaussian", "kl"), ACTIONS, {}, ValueError, r"y of shape \(2, 6, 2\) must be \(2, 6, 4\)"),
        (NET, ("categorical", "log"), ACTIONS, {}, TypeError, "y of dtype float64 must be integer labels"),
        (NET, ("categorical", "log"), np.full((T, N), 4), {}, ValueError, "labels must be 0 .. ways-1; got 4"),
        (fm.MLP((2, 3)), ("gaussian", "log"), ACTIONS, {}, ValueError, "has 3 outputs; a gaussian policy has"),
    ],
)
def test_what_policy_losses_do_not_take(net, loss, y, options, error, said):
    with pytest.raises(error, match=said):
        fm.gradient(net, net.init(0), X, y, loss=fm.PolicyLoss(*loss), device="numpy", **options)


@pytest.mark.parametrize(
    "given", [{"policy": "beta"}, {"surrogate": "dice"}, {"clip": 0}], ids=lambda given: next(iter(given))
)
def test_descriptions_are_checked(given):
    with pytest.raises(ValueError, match=f"{next(iter(given))}="):
        fm.PolicyLoss(**given)
