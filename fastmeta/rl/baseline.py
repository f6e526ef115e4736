"""Advantages: how much better a step went than a baseline expected."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np

from fastmeta.rl.trajectories import Trajectories
from fastmeta_kernels.contract import Array

BASELINES = ("linear", "none")
RIDGE, GROWTH, TRIES = 1e-5, 10.0, 5
EQUAL = 1e-8  # advantages whose deviation is smaller are equal


class Advantages(NamedTuple):
    """Advantages of every step, 0 behind a trajectory's end, and what the baseline explained."""

    values: Array  # (T, R, H) float64
    explained: float  # 1 - variance of what is left / variance of the discounted returns


def advantages(
    data: Trajectories, discount: float, gae: float, baseline: str = "linear", *, pooled: bool = False
) -> Advantages:
    """Generalised advantages of mean 0 and deviation 1 over the steps of each task, or, `pooled`, of all tasks.

    delta_t = r_t + discount V_t+1 - V_t and A_t = sum_l (discount gae)^l delta_t+l (Schulman et al. 2016, arXiv
    1506.02438), where V is the baseline, fitted to these very trajectories, and 0 behind the last step.
    """
    mask = data.mask
    rewards = data.rewards.astype(np.float64)
    returns = _discounted(rewards, discount) * mask
    features = _features(data.observations, mask)
    shape = rewards.shape
    if pooled:
        mask, returns, rewards = (a.reshape(1, -1, shape[2]) for a in (mask, returns, rewards))
        features = features.reshape(1, -1, *features.shape[2:])
    values = fitted(features, returns) * mask if baseline == "linear" else np.zeros_like(returns)
    ahead = np.zeros_like(values)
    ahead[..., :-1] = values[..., 1:]
    raw = _discounted((rewards + discount * ahead - values) * mask, discount * gae) * mask
    left = (returns - values)[mask]
    variance = returns[mask].var()
    explained = 1 - left.var() / variance if variance > 0 else 0.0
    return Advantages(normalised(raw, mask).reshape(shape), float(explained))


def normalised(raw: Array, mask: Array) -> Array:
    """Mean 0 and deviation 1 over the steps (T, R, H) of a task that count; 0, and a warning, where all are equal."""
    count = mask.sum(axis=(1, 2), keepdims=True)
    centred = (raw - raw.sum(axis=(1, 2), keepdims=True) / count) * mask
    deviation = np.sqrt((centred**2).sum(axis=(1, 2), keepdims=True) / count)
    scale = np.abs(raw).max(axis=(1, 2), keepdims=True)
    equal = deviation <= EQUAL * np.maximum(scale, EQUAL)
    if equal.all():
        warnings.warn(
            "All advantages are equal: nothing can be learned from these trajectories. Look at the rewards.",
            stacklevel=2,
        )
    spread: Array = np.where(equal, 0.0, centred / np.where(equal, 1.0, deviation + EQUAL))
    return spread


def fitted(features: Array, returns: Array) -> Array:
    """Linear least squares of returns (T, R, H) by features (T, R, H, F), with a ridge that grows where it must.

    Raises ValueError where the system stays singular.
    """
    tasks, width = len(returns), features.shape[-1]
    x, y = features.reshape(tasks, -1, width), returns.reshape(tasks, -1, 1)
    gram, moment = x.mT @ x, x.mT @ y
    ridge = RIDGE
    for _ in range(TRIES + 1):
        try:
            weights = np.linalg.solve(gram + ridge * np.eye(width), moment)
            if np.isfinite(weights).all():
                return (x @ weights).reshape(returns.shape)
        except np.linalg.LinAlgError:
            pass
        ridge *= GROWTH
    raise ValueError(
        f"The linear baseline must have a solution; with a ridge of {ridge / GROWTH:g} it has none. Scale the "
        'observations and rewards to about 1, or use baseline="none".'
    )


def _features(observations: Array, mask: Array) -> Array:
    """Clipped observations, their squares, powers of time and a one (Duan et al. 2016, arXiv 1604.06778)."""
    seen = np.clip(observations.astype(np.float64), -10, 10)
    time = np.broadcast_to(np.arange(mask.shape[2]) / 100.0, mask.shape)
    powers = np.stack([time, time**2, time**3, np.ones(mask.shape)], axis=-1)
    return np.concatenate([seen, seen**2, powers], axis=-1) * mask[..., None]


def _discounted(values: Array, rate: float) -> Array:
    """sum_l rate^l values_t+l over the last axis."""
    sums = np.array(values)
    for t in range(values.shape[-1] - 2, -1, -1):
        sums[..., t] += rate * sums[..., t + 1]
    return sums
