"""Made-up samples that an artifact adapts to when it tests itself, and the outputs that it must give."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from fastmeta.checks import DivergenceError
from fastmeta.exports.model import ExportModel
from fastmeta_kernels.contract import Array

QUERIES = 3
SEEDS = range(1, 9)
LARGEST = 1e30  # in float64; float32 ends at 3e38


class Golden(NamedTuple):
    """A seed of `draw`, and the outputs (at most QUERIES, O) in float64."""

    seed: int
    outputs: Array

    @property
    def scale(self) -> float:
        """What the worst difference is divided by: the largest output, at least 1."""
        return max(1.0, float(np.abs(self.outputs).max()))


def golden(model: ExportModel, queries: int = QUERIES) -> Golden:
    """Outputs of at most `queries` samples; of a few seeds those that change least where x does.

    So no value lies at a kink of a ReLU, where float32 and float64 may part.
    """
    found: list[tuple[float, Golden]] = []
    for seed in SEEDS:
        x, asked, y = samples(model, seed, min(queries, QUERIES))
        try:
            outputs = model.exact(x, y, asked)
            near = model.exact(x * np.float32(1 + 1e-6), y, asked * np.float32(1 - 1e-6))
        except DivergenceError:
            continue
        if np.abs(outputs).max() < LARGEST:
            found.append((float(np.abs(outputs - near).max()), Golden(seed, outputs)))
        if found and found[-1][0] < 3e-6 * found[-1][1].scale:
            break
    if not found:
        raise ValueError(
            "the learner diverges on samples of uniform numbers from -1 to 1, with which an artifact tests itself. "
            "Lower its inner_lr, or train it longer."
        )
    return min(found, key=lambda pair: pair[0] / pair[1].scale)[1]


def samples(model: ExportModel, seed: int, count: int = QUERIES) -> tuple[Array, Array, Array]:
    """x (N, ...), `count` queries and y as the artifact's self_test draws them."""
    size = math.prod(model.net.input_shape)
    targets = 0 if model.classifies else model.samples * model.outputs
    numbers = draw(seed, (model.samples + count) * size + targets)
    x, queries, rest = np.split(numbers, [model.samples * size, (model.samples + count) * size])
    shape = model.net.input_shape
    y = np.arange(model.samples) % model.outputs if model.classifies else rest.reshape(model.samples, model.outputs)
    return x.reshape(-1, *shape), queries.reshape(-1, *shape), y


def draw(seed: int, count: int) -> Array:
    """float32 numbers from -1 to 1 of a linear congruential generator."""
    numbers, state = np.empty(count, np.float32), seed
    for i in range(count):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        numbers[i] = (state >> 8) / 8388608 - 1
    return numbers
