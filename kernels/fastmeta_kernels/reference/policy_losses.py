"""Losses of policies: outputs z (T, N, O), actions y, advantages as weights (T, N), log-probabilities at sampling.

L = mean_n w_n psi(l_n), l = log pi(y; z): psi is -l ("log"), -exp(l - l0) ("ratio"), or the ratio while it counts
("clip", Schulman et al. 2017); or the mean KL(old || new), whose y are the old outputs. O is A logits, or A means
and A log standard deviations.
"""

from __future__ import annotations

import math

import numpy as np

from fastmeta_kernels.contract import Array, Loss, TaskSet, loss_of
from fastmeta_kernels.layer_table import POLICIES, SURROGATES

CATEGORICAL, GAUSSIAN = range(len(POLICIES))
LOG, RATIO, CLIP, KL = range(len(SURROGATES))


def forward(z: Array, data: TaskSet) -> Array:
    """Losses (T,)."""
    _, surrogate, clip = loss_of(data).constants
    if surrogate == KL:
        values = _divergence(z, data)
    elif surrogate == LOG:
        values = -_log_prob(z, data)
    elif surrogate == RATIO:
        values = -_ratio(z, data)
    else:
        rho, up = _ratio(z, data), _weights(z, data) > 0
        values = -np.where(up, np.minimum(rho, 1 + clip), np.maximum(rho, 1 - clip))
    return np.asarray((_weights(z, data) * values).mean(axis=1))


def backward(z: Array, data: TaskSet) -> Array:
    """dz (T, N, O) = w psi' g / N, g = d l / d z; of the KL w d KL / d z / N."""
    _, surrogate, _ = loss_of(data).constants
    scale = _weights(z, data)[..., None] / z.shape[1]
    if surrogate == KL:
        return np.asarray(scale * _divergence_slope(z, data))
    slope, _ = _psi(z, data)
    return np.asarray(scale * slope[..., None] * _score(z, data))


def backward_tangent(z: Array, z_dot: Array, data: TaskSet) -> Array:
    """dz_dot (T, N, O) = w (psi'' (g . z_dot) g + psi' g_dot) / N; of the KL w d2 KL z_dot / N."""
    _, surrogate, _ = loss_of(data).constants
    scale = _weights(z, data)[..., None] / z.shape[1]
    if surrogate == KL:
        return np.asarray(scale * _divergence_slope_tangent(z, z_dot, data))
    (slope, curve), g = _psi(z, data), _score(z, data)
    along = (g * z_dot).sum(axis=2, keepdims=True)
    return np.asarray(scale * (curve[..., None] * along * g + slope[..., None] * _score_tangent(z, z_dot, data)))


def metric(z: Array, z_dot: Array, data: TaskSet) -> Array:
    """w M z_dot / N, M the Hessian of the KL at its own outputs: diag p - p p^T, or diag(exp(-2 s), 2). (T, N, O)."""
    scale = _weights(z, data)[..., None] / z.shape[1]
    if not _gaussian(data):
        p = np.exp(_log_softmax(z))
        return np.asarray(scale * p * (z_dot - (p * z_dot).sum(axis=2, keepdims=True)))
    _, s = np.split(z, 2, axis=2)
    mu_dot, s_dot = np.split(z_dot, 2, axis=2)
    return np.asarray(scale * np.concatenate([np.exp(-2 * s) * mu_dot, 2 * s_dot], axis=2))


def has_sides(loss: Loss) -> bool:
    """Whether ratios stop to count somewhere, where the loss has no second derivative."""
    return loss.constants[1] == CLIP


def sides(z: Array, data: TaskSet) -> Array:
    """Which ratios count. (T, N)."""
    return np.asarray(_psi(z, data)[0] != 0)


def _psi(z: Array, data: TaskSet) -> tuple[Array, Array]:
    """psi' and psi'' (T, N), both by l."""
    _, surrogate, clip = loss_of(data).constants
    if surrogate == LOG:
        return -np.ones(z.shape[:2], z.dtype), np.zeros(z.shape[:2], z.dtype)
    rho, w = _ratio(z, data), _weights(z, data)
    counts = ((w > 0) & (rho < 1 + clip)) | ((w < 0) & (rho > 1 - clip)) | (surrogate == RATIO)
    slope = np.where(counts, -rho, 0)
    return slope, slope


def _log_prob(z: Array, data: TaskSet) -> Array:
    """l = z_y - log sum_o exp z_o, or sum_a -s - e^2 / 2 - log(2 pi) / 2, e = (y - mu) exp(-s). (T, N)."""
    if not _gaussian(data):
        return np.take_along_axis(_log_softmax(z), data.y[:, :, None], axis=2)[..., 0]
    mu, s = np.split(z, 2, axis=2)
    e = (data.y - mu) * np.exp(-s)
    return np.asarray((-s - e**2 / 2 - math.log(2 * math.pi) / 2).sum(axis=2))


def _ratio(z: Array, data: TaskSet) -> Array:
    """rho = exp(l - l0). (T, N)."""
    return np.asarray(np.exp(_log_prob(z, data) - data.log_probs))


def _score(z: Array, data: TaskSet) -> Array:
    """g = onehot(y) - p, or (e exp(-s), e^2 - 1). (T, N, O)."""
    if not _gaussian(data):
        return _one_hot(z, data) - np.exp(_log_softmax(z))
    mu, s = np.split(z, 2, axis=2)
    e = (data.y - mu) * np.exp(-s)
    return np.concatenate([e * np.exp(-s), e**2 - 1], axis=2)


def _score_tangent(z: Array, z_dot: Array, data: TaskSet) -> Array:
    """g_dot, with e_dot = -exp(-s) mu_dot - e s_dot. (T, N, O)."""
    if not _gaussian(data):
        p = np.exp(_log_softmax(z))
        return np.asarray(-(p * (z_dot - (p * z_dot).sum(axis=2, keepdims=True))))
    mu, s = np.split(z, 2, axis=2)
    mu_dot, s_dot = np.split(z_dot, 2, axis=2)
    e = (data.y - mu) * np.exp(-s)
    e_dot = -np.exp(-s) * mu_dot - e * s_dot
    return np.concatenate([np.exp(-s) * (e_dot - e * s_dot), 2 * e * e_dot], axis=2)


def _divergence(z: Array, data: TaskSet) -> Array:
    """KL(old || new). (T, N)."""
    if not _gaussian(data):
        logs0, logs = _log_softmax(data.y), _log_softmax(z)
        return np.asarray((np.exp(logs0) * (logs0 - logs)).sum(axis=2))
    (mu, s), (mu0, s0) = np.split(z, 2, axis=2), np.split(data.y, 2, axis=2)
    return np.asarray((s - s0 + (np.exp(2 * s0 - 2 * s) + (mu - mu0) ** 2 * np.exp(-2 * s)) / 2 - 0.5).sum(axis=2))


def _divergence_slope(z: Array, data: TaskSet) -> Array:
    """p - p0, or ((mu - mu0) exp(-2 s), 1 - exp(2 s0 - 2 s) - (mu - mu0)^2 exp(-2 s)). (T, N, O)."""
    if not _gaussian(data):
        return np.exp(_log_softmax(z)) - np.exp(_log_softmax(data.y))
    (mu, s), (mu0, s0) = np.split(z, 2, axis=2), np.split(data.y, 2, axis=2)
    inverse = np.exp(-2 * s)
    return np.concatenate([(mu - mu0) * inverse, 1 - np.exp(2 * s0 - 2 * s) - (mu - mu0) ** 2 * inverse], axis=2)


def _divergence_slope_tangent(z: Array, z_dot: Array, data: TaskSet) -> Array:
    if not _gaussian(data):
        p = np.exp(_log_softmax(z))
        return np.asarray(p * (z_dot - (p * z_dot).sum(axis=2, keepdims=True)))
    (mu, s), (mu0, s0) = np.split(z, 2, axis=2), np.split(data.y, 2, axis=2)
    mu_dot, s_dot = np.split(z_dot, 2, axis=2)
    inverse, away = np.exp(-2 * s), mu - mu0
    by_s = 2 * np.exp(2 * s0 - 2 * s) + 2 * away**2 * inverse
    return np.concatenate([inverse * (mu_dot - 2 * away * s_dot), by_s * s_dot - 2 * away * inverse * mu_dot], axis=2)


def _gaussian(data: TaskSet) -> bool:
    return loss_of(data).constants[0] == GAUSSIAN


def _weights(z: Array, data: TaskSet) -> Array:
    return np.ones(z.shape[:2], z.dtype) if data.weights is None else data.weights


def _one_hot(z: Array, data: TaskSet) -> Array:
    return np.asarray((np.arange(z.shape[2]) == data.y[:, :, None]).astype(z.dtype))


def _log_softmax(z: Array) -> Array:
    shifted = z - z.max(axis=2, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=2, keepdims=True)))
