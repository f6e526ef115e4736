"""Derivatives through inner steps, each on trajectories of its own, against central differences."""

from __future__ import annotations

import numpy as np
import pytest

from fastmeta.rl.trust_region import curvature
from tests.rl.policies import KINDS, TASKS, adaptation, central, network, samples, theta


def _loss(run, query, at):
    return query.ratio_loss(query.outputs(run.run(at).phis[-1])).mean()


@pytest.mark.parametrize("surrogate", ["ratio", "log"])
@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_meta_gradient_by_theta_and_rates(kind, steps, surrogate, device):
    net = network(kind)
    at, run, query = theta(net), adaptation(net, kind, steps, surrogate, device), samples(net, kind, 1, device)
    ran = run.run(at)
    slopes, by_rate = ran.pull(query.gradient(ran.phis[-1], "ratio"))
    found = central(lambda moved: _loss(run, query, moved), at)
    assert np.abs(slopes.mean(axis=0) - found).max() < 1e-7 * max(1, np.abs(found).max())
    places = np.random.default_rng(2).choice(run.rates.size, 12, replace=False)

    def of_rates(chosen):
        rates = run.rates.copy()
        rates.flat[places] = chosen
        return _loss(type(run)(run.sets, rates, surrogate), query, at)

    wanted = central(of_rates, run.rates.flat[places])
    assert np.abs(by_rate.mean(axis=0).flat[places] - wanted).max() < 1e-7 * max(1, np.abs(wanted).max())


@pytest.mark.parametrize("kind", KINDS)
def test_first_order_is_the_slope_behind_the_steps(kind):
    net = network(kind)
    run, query = adaptation(net, kind, 2, "ratio"), samples(net, kind, 1)
    ran = type(run)(run.sets, run.rates, "ratio", order=1).run(theta(net))
    slopes = query.gradient(ran.phis[-1], "ratio")
    assert np.array_equal(ran.pull(slopes)[0], slopes)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_curvature_is_the_hessian_of_the_divergence_through_adaptation(kind, steps, device):
    net = network(kind)
    at, query = theta(net), samples(net, kind, 1, device)
    run = adaptation(net, kind, steps, "ratio", device)
    ran = run.run(at)
    old = query.outputs(ran.phis[-1])

    def slope(moved):
        there = run.run(moved)
        return there.pull(query.divergence_gradient(there.phis[-1], old))[0].mean(axis=0)

    rng = np.random.default_rng(3)
    v, w = rng.standard_normal((2, at.size))
    product = curvature(ran, query)
    found = product(v)
    wanted = (slope(at + 1e-5 * v) - slope(at - 1e-5 * v)) / 2e-5
    assert np.abs(found - wanted).max() < 1e-6 * np.abs(wanted).max()
    assert abs(w @ found - v @ product(w)) < 1e-12 * np.abs(found).max() * np.abs(w).sum()
    for u in rng.standard_normal((20, at.size)):
        assert u @ product(u) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_ratio_and_log_take_the_same_step_where_sampled(kind):
    net = network(kind)
    query = samples(net, kind, 1)
    phi = np.repeat(theta(net)[None], TASKS, axis=0)
    from dataclasses import replace

    from fastmeta.rl import policies

    sampled = replace(query, logs=policies.log_probs(kind, query.outputs(phi), query.actions))
    assert np.abs(sampled.gradient(phi, "ratio") - sampled.gradient(phi, "log")).max() < 1e-12
    assert np.abs(sampled.ratio_loss(query.outputs(phi)) + sampled.weights.mean(axis=1)).max() < 1e-12


def test_padding_changes_nothing():
    net = network("gaussian")
    query = samples(net, "gaussian", 1)
    phi = np.repeat(theta(net)[None], TASKS, axis=0)
    padded = query.shares == 0
    assert padded.any()
    from dataclasses import replace

    other = replace(query, x=np.where(padded[..., None], 7.0, query.x))
    for name in ("log", "ratio"):
        assert np.array_equal(query.gradient(phi, name), other.gradient(phi, name))
    assert np.array_equal(query.fisher(phi)(phi), other.fisher(phi)(phi))


def test_the_hessian_of_the_ratio_is_unbiased_and_that_of_the_log_is_not():
    """One pull of a two-armed bandit with a fixed baseline: the expectation is a sum over both arms."""
    import fastmeta as fm
    from fastmeta.rl.samples import Samples

    net, draws, rng = fm.Network([fm.Linear(2)], (1,)), 100_000, np.random.default_rng(0)
    at, gain = np.array([0.3, -0.2, 0.1, 0.4]), np.array([0.7, -0.4])
    z = at[:2] + at[2:]
    p = np.exp(z) / np.exp(z).sum()

    def expected(moved):
        logits = moved[:2] + moved[2:]
        return -(np.exp(logits) / np.exp(logits).sum()) @ gain

    v = np.array([1.0, -0.5, 0.3, 0.8])
    hessian = central(lambda a: central(expected, a, 1e-4), at, 1e-4)
    exact = hessian @ v
    arms = (rng.random((draws, 1)) > p[0]).astype(np.int64)
    ones, logs = np.ones((draws, 1)), np.log(p)[arms]
    pulls = Samples(net, ones[..., None], arms, gain[arms], ones, logs, "numpy")
    thetas, many = np.repeat(at[None], draws, axis=0), np.repeat(v[None], draws, axis=0)
    far = {}
    for surrogate in ("ratio", "log"):
        products = pulls.hvp(thetas, many, surrogate)
        errors = products.std(axis=0) / np.sqrt(draws)
        far[surrogate] = np.abs(products.mean(axis=0) - exact) / np.maximum(errors, 1e-12)
    assert far["ratio"].max() < 4
    assert far["log"].max() > 4


def test_a_step_is_as_long_as_the_curvature_of_its_direction_says():
    from fastmeta.rl.trust_region import TrustRegion, step

    net = network("gaussian")
    at, query = theta(net), samples(net, "gaussian", 1)
    ran, region = adaptation(net, "gaussian", 1, "ratio").run(at), TrustRegion(cg_steps=4)
    slope = ran.pull(query.gradient(ran.phis[-1], "ratio"))[0].mean(axis=0)
    done = step(region, ran, query, at, slope, np.inf, lambda moved: (0.0, 0.0))
    moved = at - done.theta
    assert done.accepted == 1
    length = moved @ (curvature(ran, query)(moved) + region.damping * moved)
    assert abs(length - 2 * region.max_kl) < 1e-9 * region.max_kl
    assert step(region, ran, query, at, slope, -1.0, lambda moved: (0.0, 0.0)).accepted == 0
