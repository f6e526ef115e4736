"""Assays made here: their tasks, ridges, and what a Gaussian prior makes of a support set."""

from __future__ import annotations

import numpy as np
import pytest

import fastmeta as fm
from examples.molecules import __main__ as molecules
from examples.molecules import assays, posterior


def made_assays(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Molecules whose first bits make them active in every assay, each with a bit of its own."""
    rng = np.random.default_rng(seed)
    x = (rng.random((300, 2048)) < 0.02).astype(np.uint8)
    x[:, :6] = rng.random((300, 6)) < 0.5
    y = (x[:, :1] + x[:, 1:6] > 1).astype(np.int8)
    y[rng.random(y.shape) < 0.05] = -1
    return 255 * x, y


def test_assays_are_tasks_of_ten_and_ten():
    x, y = made_assays()
    batch = assays.Assays(x, y, queries=8).sample(3, seed=0)
    assert batch.x_support.shape == (3, 20, 2048)
    assert batch.y_query.sum(axis=1).tolist() == [8, 8, 8]
    whole = assays.Assays(x, y)
    for step in range(5):
        one = whole.sample(1, seed=1, step=step)
        assert one.y_query.size == (y[:, step] >= 0).sum() - 20
        assert one.y_query.sum() == (y[:, step] == 1).sum() - 10
        seen = {row.tobytes() for row in one.x_support[0]}
        assert not seen & {row.tobytes() for row in one.x_query[0]}


@pytest.mark.parametrize("together", [True, False])
def test_the_ridge_ranks_what_all_assays_call_active(together):
    x, y = made_assays()
    test = assays.Assays(*made_assays(seed=1))
    untrained = fm.MAML(molecules.LINEAR, 0.03).fit(test, 0, theta=prior_of(x, y[:, :4], together))
    score = untrained.evaluate(test, 5, inner_steps=[0])[0]
    assert score.measure == "auc"
    assert score.mean > 0.7


def test_the_ridge_is_that_of_its_equation():
    x, y = made_assays()
    theta = prior_of(x, np.abs(y[:, :1]), together=True, strength=7.0)
    bits, target = (x > 0).astype(float), np.abs(y[:, 0]).astype(float)
    bits, target = bits - bits.mean(axis=0), (target - target.mean()) / target.std()
    expected = bits.T @ np.linalg.solve(bits @ bits.T + 7 * np.eye(len(bits)), target)  # the dual form
    difference = fm.MLP((2048, 2)).views(theta)["linear1.weight"] @ [-1, 1]
    assert np.corrcoef(difference, expected)[0, 1] == pytest.approx(1, abs=1e-5)


def test_outputs_of_ridges_are_features_that_change_nothing_without_a_support_set():
    known, new = assays.Assays(*made_assays()), assays.Assays(*made_assays(seed=1))
    weights = assays.ridges(known.x, known.y, together=False)
    wider, theta = assays.with_outputs(known, new, weights), assays.prior(known.x, weights)
    assert wider.x.shape == (300, 2048 + 5)
    assert np.square(wider.x[:, 2048:]).sum(axis=1).mean() == pytest.approx(1.5**2, rel=1e-5)
    np.testing.assert_allclose(wider.x[:, 2048:].sum(axis=1), 0, atol=1e-5)
    plain = molecules.start(theta, new, 3)
    found = molecules.start(np.insert(theta, len(theta) - 2, np.zeros(10, np.float32)), wider, 3)
    np.testing.assert_allclose(found[0].values, plain[0].values, atol=1e-6)
    assert np.abs(found[5].values - plain[5].values).max() > 0


def test_the_posterior_is_that_of_a_gaussian_prior():
    known, new = assays.Assays(*made_assays()), assays.Assays(*made_assays(seed=1))
    prior = posterior.learned(known, assays.ridges(known.x, known.y, together=False)).sized(0.3, 0.1, 0.2)
    centred = (known.x > 0) - prior.centre
    sizes = [(centred @ prior.mean).std(), *(np.square(centred @ w).sum(1).mean() for w in (prior.shared,))]
    np.testing.assert_allclose([*sizes, (np.square(centred) @ prior.own).mean()], [0.3, 0.1, 0.2], rtol=1e-4)
    one = new.sample(1, seed=0)
    x, y = (one.x_support[0] > 0) - prior.centre, 2.0 * one.y_support[0] - 1
    joint = np.diag(np.append(prior.own, prior.spread))  # of w and b
    joint[:-1, :-1] += prior.shared @ prior.shared.T
    mean, seen = np.append(prior.mean, prior.rate), np.insert(x, 2048, 1, axis=1)
    gain = np.linalg.solve(seen @ joint @ seen.T + np.eye(20), seen @ joint).T
    expected = mean + gain @ (y - seen @ mean)
    found = prior.posterior(one.x_support[0] > 0, one.y_support[0])
    np.testing.assert_allclose(found, expected[:-1], rtol=1e-8, atol=1e-12)


def test_sizes_of_the_prior_are_scored_on_assays_left_out(monkeypatch):
    monkeypatch.setattr(posterior, "SIZES", ((0.1,), (0.01,), (0.1, 0.2)))
    gains = posterior.left_out(assays.Assays(*made_assays()), seed=0, draws=2)
    assert list(gains) == [(0.1, 0.01, 0.1), (0.1, 0.01, 0.2)]
    assert all(abs(gain) < 0.5 for gain in gains.values())


def prior_of(x: np.ndarray, y: np.ndarray, together: bool, **strength: float) -> np.ndarray:
    """The start that ridges on y give."""
    return assays.prior(x, assays.ridges(x, y, together, **strength))
