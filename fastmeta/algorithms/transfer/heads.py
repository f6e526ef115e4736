"""Classifiers fitted to the features of T support sets: logits = features @ weight + bias.

T tasks, N samples, D features, K classes. features (T, N, D), shares (T, N, K): one-hot labels times each sample's
weight. Every function gives weight (T, D, K) and bias (T, 1, K).
"""

from __future__ import annotations

import numpy as np

from fastmeta_kernels.contract import Array

COSINE_SCALE = 10.0
MOST_STEPS, TOLERANCE = 500, 1e-6


def normalised(features: Array) -> Array:
    """Features (..., D) of length 1; those of length 0 stay (Wang et al. 2019, arXiv 1911.04623, L2N)."""
    norms = np.linalg.norm(features, axis=-1, keepdims=True)
    unit: Array = features / np.where(norms == 0, 1, norms)
    return unit


def centroid_head(features: Array, shares: Array) -> tuple[Array, Array]:
    """Nearest class mean c_k: logits 2 q c_k - c_k c_k, which are -||q - c_k||^2 but for what all classes share."""
    means = np.swapaxes(_means(features, shares), 1, 2)  # (T, D, K)
    return 2 * means, -np.square(means).sum(axis=1, keepdims=True)


def linear_head(features: Array, shares: Array, strength: float = 1.0) -> tuple[Array, Array]:
    """Multinomial logistic regression: the W that minimises sum_i CE_i(W) + strength / 2 ||W||^2.

    Convex, so that the optimum is unique. W = X' A with A (N, K); each step minimises the quadratic upper bound
    whose curvature is half of X' S X (Boehning 1992), which never raises the objective: with the Gram matrix
    G = X X' and sample weights S, A -= (S G / 2 + strength I)^-1 (S (softmax(G A) - Y) + strength A),
    until no entry of the task's moves by more than 1e-6 of its largest.
    """
    weights = shares.sum(axis=2, keepdims=True)  # (T, N, 1)
    gram = features @ np.swapaxes(features, 1, 2)
    curvature = weights * gram / 2 + strength * np.eye(gram.shape[1], dtype=gram.dtype)
    inverse = np.linalg.inv(curvature)
    dual = np.zeros_like(shares)
    moving = np.ones((len(shares), 1, 1), shares.dtype)  # 0 for a task that is done, whatever the others need
    for _ in range(MOST_STEPS):
        move = moving * (inverse @ (weights * _softmax(gram @ dual) - shares + strength * dual))
        dual -= move
        steps, largest = (np.abs(values).max(axis=(1, 2), keepdims=True) for values in (move, dual))
        moving *= steps > TOLERANCE * np.maximum(largest, 1)
        if not moving.any():
            break
    weight = np.swapaxes(features, 1, 2) @ dual
    return weight, np.zeros_like(weight[:, :1])


def cosine_head(features: Array, shares: Array, steps: int = 100) -> tuple[Array, Array]:
    """Unit vectors w_k, with logits 10 cos(q, w_k), for features of length 1 (Chen et al. 2019, arXiv 1904.04232).

    From the class means' directions, `steps` gradient steps of the mean cross-entropy along the sphere, of a
    length at which the loss cannot rise.
    """
    total = shares.sum(axis=(1, 2), keepdims=True)
    weights = shares.sum(axis=2, keepdims=True)
    directions = normalised(_means(features, shares))  # (T, K, D)
    rate = 2 / COSINE_SCALE**2
    for _ in range(steps):
        logits = COSINE_SCALE * features @ np.swapaxes(directions, 1, 2)
        slope = COSINE_SCALE * np.swapaxes(weights * _softmax(logits) - shares, 1, 2) @ features / total
        slope -= directions * (slope * directions).sum(axis=2, keepdims=True)
        directions = normalised(directions - rate * slope)
    weight = COSINE_SCALE * np.swapaxes(directions, 1, 2)
    return weight, np.zeros_like(weight[:, :1])


HEADS = {"linear": linear_head, "cosine": cosine_head, "centroid": centroid_head}


def _means(features: Array, shares: Array) -> Array:
    """Class means (T, K, D)."""
    means: Array = np.swapaxes(shares, 1, 2) @ features / np.swapaxes(shares.sum(axis=1, keepdims=True), 1, 2)
    return means


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Array = powers / powers.sum(axis=-1, keepdims=True)
    return shares
