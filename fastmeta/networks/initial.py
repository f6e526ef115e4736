"""First values of a network's parameters: random weights by a scheme; biases and shifts 0, scales 1."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fastmeta.networks.layers import Shape

INITIALIZATIONS = (
    "glorot_uniform",
    "glorot_normal",
    "he_uniform",
    "he_normal",
    "lecun_normal",
    "truncated_normal",
    "identity",
)


def values(rng: np.random.Generator, scheme: str, name: str, shape: Shape) -> NDArray[np.float64] | float:
    """What the parameter array of this name begins with: weights are drawn, scales 1, all else 0."""
    return draw(rng, scheme, shape) if name.endswith(".weight") else float(name.endswith(".scale"))


def draw(rng: np.random.Generator, scheme: str, shape: Shape) -> NDArray[np.float64]:
    """Weights of `shape`, (I, O) or (kernel, kernel, I, O), by one of INITIALIZATIONS."""
    if scheme == "identity":
        values = np.zeros(shape)
        values[tuple(n // 2 for n in shape[:-2])] = np.eye(shape[-2], shape[-1])  # the middle tap of a convolution
        return values
    receptive = math.prod(shape[:-2])
    fan_in, fan_out = shape[-2] * receptive, shape[-1] * receptive
    if scheme == "truncated_normal":
        values = rng.standard_normal(shape)
        while (outside := np.abs(values) > 2).any():
            values[outside] = rng.standard_normal(int(outside.sum()))
        return 0.01 * values
    variance = {"glorot": 2 / (fan_in + fan_out), "he": 2 / fan_in, "lecun": 1 / fan_in}[scheme.split("_")[0]]
    if scheme.endswith("uniform"):
        limit = math.sqrt(3 * variance)
        return rng.uniform(-limit, limit, shape)
    return rng.normal(0.0, math.sqrt(variance), shape)
