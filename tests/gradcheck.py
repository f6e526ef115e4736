"""Central differences for tests: extrapolated, along random directions, to first and second order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastmeta as fm
from fastmeta.lab.central_differences import kink_pattern, ridders
from fastmeta.networks.network import Network

WIDTH, LEVELS, TINY = 0.04, 5, 1e-300


def derivative(f: Callable[[float], Any], width: float = WIDTH, levels: int = LEVELS) -> np.ndarray:
    """d f(e) / de at e = 0: central differences at width / 2^i, extrapolated (Richardson) to order 2 levels."""
    row: list[np.ndarray] = []
    for level in range(levels):
        step = width / 2**level
        previous, row = row, [(np.asarray(f(step)) - np.asarray(f(-step))) / (2 * step)]
        for j, coarse in enumerate(previous):
            row.append(row[j] + (row[j] - coarse) / (4 ** (j + 1) - 1))
    return row[-1]


def relative(value: Any, expected: Any) -> float:
    """||value - expected|| / ||expected|| over everything in two arrays or two sequences of arrays."""
    a, b = flat(value), flat(expected)
    assert a.shape == b.shape
    return float(np.linalg.norm(a - b) / (np.linalg.norm(b) or 1.0))


def flat(arrays: Any) -> np.ndarray:
    """One float64 vector of an array or a (nested) sequence of arrays."""
    if isinstance(arrays, tuple | list):
        return np.concatenate([flat(a) for a in arrays])
    return np.asarray(arrays, np.float64).ravel()


def smooth_width(net: Network, theta: np.ndarray, direction: np.ndarray, x: np.ndarray) -> float | None:
    """Widest step along `direction` (P,) that crosses no kink for x (T, N, ...); None where none does."""
    middle = kink_pattern(net.table, theta[None], x)
    width = WIDTH
    while width > 1e-6:
        ends = [kink_pattern(net.table, (theta + e * direction)[None], x) for e in (width, -width)]
        if ends == [middle, middle]:
            return width
        width /= 4
    return None


def gradient_errors(
    net: Network,
    theta: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray | None,
    device: str,
    order: int = 2,
    seed: int = 0,
) -> list[float]:
    """Relative errors of the gradient and (order 2) of an HVP of T tasks; empty where only kinks were met."""
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal(theta.size)
    direction /= np.linalg.norm(direction)
    width = smooth_width(net, theta, direction, x)
    if width is None:
        return []

    def loss(e: float) -> Any:
        return fm.loss(net, theta + e * direction, x, y, weights, device=device)

    def gradient(e: float) -> Any:
        return fm.gradient(net, theta + e * direction, x, y, weights, device=device)[1]

    typical = np.linalg.norm(gradient(0.0)) / np.sqrt(theta.size)
    slopes = gradient(0.0) @ direction
    gap = np.linalg.norm(slopes - derivative(loss, width))
    errors = [float(gap / max(np.linalg.norm(slopes), typical, 1e-4 * np.linalg.norm(loss(0.0)), TINY))]
    if order == 2:
        product = fm.hvp(net, theta, direction, x, y, weights, device=device)
        gap = np.linalg.norm(product - derivative(gradient, width))
        errors.append(float(gap / max(np.linalg.norm(product), 1e-4 * np.linalg.norm(gradient(0.0)), TINY)))
    return errors


def slope_errors(
    objective: Callable[[dict[str, np.ndarray]], float],
    parameters: dict[str, np.ndarray],
    slopes: dict[str, np.ndarray],
    seed: int = 0,
) -> dict[str, float]:
    """Relative error of each slope along a random direction of its parameter, all others held."""
    assert slopes.keys() == parameters.keys()
    rng, errors, middle = np.random.default_rng(seed), {}, abs(objective(parameters))
    for name, values in parameters.items():
        direction = rng.standard_normal(values.shape)
        direction /= np.linalg.norm(direction)
        exact = float(np.vdot(slopes[name], direction))
        typical = np.linalg.norm(slopes[name]) / np.sqrt(values.size)

        def along(step: np.ndarray, name: str = name) -> tuple[float, int]:
            return objective(parameters | {name: parameters[name] + step.reshape(parameters[name].shape)}), 0

        difference = ridders(along, direction.ravel(), WIDTH)
        errors[name] = abs(difference - exact) / max(abs(exact), typical, 1e-4 * middle, TINY)
    return errors
