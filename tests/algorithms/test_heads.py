"""The heads that transfer learning fits: optima, derivatives, and what each does with a support set."""

from __future__ import annotations

import numpy as np
import pytest

from fastmeta.algorithms.transfer.heads import COSINE_SCALE, HEADS, centroid_head, cosine_head, linear_head, normalised


def problem(
    tasks: int = 2, ways: int = 3, shots: int = 4, size: int = 7, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Normalised features (T, N, D) and shares (T, N, K) with sample weights."""
    rng = np.random.default_rng(seed)
    labels = np.tile(np.repeat(np.arange(ways), shots), (tasks, 1))
    features = normalised(rng.normal(size=(tasks, ways * shots, size)) + rng.normal(size=(ways, size))[labels])
    return features, np.eye(ways)[labels] * rng.uniform(0.5, 2, (tasks, ways * shots, 1))


def cross_entropy(logits: np.ndarray, shares: np.ndarray) -> float:
    log_share = logits - logits.max(axis=-1, keepdims=True)
    log_share = log_share - np.log(np.exp(log_share).sum(axis=-1, keepdims=True))
    return -float((shares * log_share).sum())


@pytest.mark.parametrize("strength", [0.01, 1.0, 10.0])
def test_linear_head_is_the_optimum(strength):
    """The gradient of the convex objective, by central differences, is 0 there, so that no other W is as good."""
    features, shares = problem()
    weight, bias = linear_head(features, shares, strength)
    assert not bias.any()

    def objective(w: np.ndarray) -> float:
        return cross_entropy(features[0] @ w, shares[0]) + strength / 2 * float(np.square(w).sum())

    rng = np.random.default_rng(1)
    for _ in range(10):
        direction = rng.normal(size=weight[0].shape)
        slope = (objective(weight[0] + 1e-4 * direction) - objective(weight[0] - 1e-4 * direction)) / 2e-4
        assert abs(slope) < 1e-4
        assert objective(weight[0] + 0.1 * direction) > objective(weight[0])


def test_linear_head_in_float32_is_that_in_float64():
    features, shares = problem(tasks=5)
    exact = linear_head(features, shares)[0]
    single = linear_head(features.astype("f4"), shares.astype("f4"))[0]
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, exact, atol=2e-5)


def test_tasks_are_fitted_one_by_one():
    features, shares = problem(tasks=3)
    for head in HEADS.values():
        together = head(features, shares)
        alone = [head(features[t : t + 1], shares[t : t + 1]) for t in range(3)]
        for i in range(2):
            np.testing.assert_allclose(together[i], np.concatenate([a[i] for a in alone]), atol=1e-5)


def test_centroid_head_gives_squared_distances():
    features, shares = problem()
    weight, bias = centroid_head(features, shares)
    query = np.random.default_rng(2).normal(size=(2, 5, 7))
    means = np.einsum("tnk,tnd->tkd", shares, features) / shares.sum(axis=1)[..., None]
    distances = np.square(query[:, :, None] - means[:, None]).sum(axis=-1)
    logits = query @ weight + bias
    np.testing.assert_allclose(logits - logits[..., :1], distances[..., :1] - distances, atol=1e-12)


def test_cosine_head_lowers_the_loss_to_a_stationary_point():
    features, shares = problem(tasks=1)

    def loss(weight: np.ndarray) -> float:
        return cross_entropy(features[0] @ weight, shares[0]) / shares.sum()

    losses = [loss(cosine_head(features, shares, steps)[0][0]) for steps in (0, 1, 10, 100, 3000)]
    assert losses == sorted(losses, reverse=True)
    rng = np.random.default_rng(3)
    directions = rng.normal(size=(10, 7, 3))

    def slopes(steps: int) -> np.ndarray:
        weight = cosine_head(features, shares, steps)[0][0]
        np.testing.assert_allclose(np.linalg.norm(weight, axis=0), COSINE_SCALE)
        ends = [[COSINE_SCALE * normalised((weight + e * d).T).T for e in (1e-4, -1e-4)] for d in directions]
        return np.array([(loss(a) - loss(b)) / 2e-4 for a, b in ends])

    assert np.linalg.norm(slopes(3000)) < 0.02 * np.linalg.norm(slopes(0))


def test_features_of_length_0_stay():
    np.testing.assert_array_equal(normalised(np.array([[3.0, 4.0], [0.0, 0.0]])), [[0.6, 0.8], [0, 0]])
