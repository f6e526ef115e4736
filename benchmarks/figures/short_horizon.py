"""Short-horizon bias on a noisy quadratic (Wu et al. 2018, arXiv 1803.02021): rates learned over few steps fall early.

L = 1/2 sum_i h_i (phi_i - c_i)^2, h_i = 1 / i, with another c at each step, of mean 0 and variance 1 / h_i. Of phi_i
the mean m and the variance s follow m <- (1 - alpha h) m and s <- (1 - alpha h)^2 s + alpha^2 h.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import fastmeta as fm
from benchmarks.figures import Options

STEPS, HORIZONS, FEATURES = 100, (1, 10, 100), 1000


def measure(small: bool, options: Options) -> dict[str, Any]:
    """Rates learned over each horizon, block after block, and the losses on the way; the engine's gap to theory."""
    h, found = 1 / np.arange(1, (50 if small else FEATURES) + 1), dict[str, Any]()
    first = np.ones_like(h)
    steps, horizons = (20, (1, 20)) if small else (STEPS, HORIZONS)
    for horizon in horizons:
        state, rates, losses = (first, np.zeros_like(h)), np.zeros(0), []
        for begin in range(0, steps, horizon):
            block = learned(h, state, horizon, rates[-1] if begin else 0.5)
            rates = np.concatenate([rates, block])
            for alpha in block:
                state = moved(h, state, alpha)
                losses.append(expected(h, state))
        found[f"horizon {horizon}"] = {"rates": rates, "losses": losses}
    return found | {"gap": engine_gap(np.linspace(0.6, 0.2, 7))}


def moved(h: Any, state: tuple[Any, Any], alpha: float) -> tuple[Any, Any]:
    """Mean and variance after a step."""
    return (1 - alpha * h) * state[0], (1 - alpha * h) ** 2 * state[1] + alpha**2 * h


def expected(h: Any, state: tuple[Any, Any]) -> float:
    """1/2 sum_i h_i (m_i^2 + s_i): the expected loss but for its constant."""
    return float(0.5 * (h * (state[0] ** 2 + state[1])).sum())


def slopes(h: Any, state: tuple[Any, Any], rates: Any) -> tuple[float, Any]:
    """The expected loss after these steps, and its gradient by their rates."""
    path = [state]
    for alpha in rates:
        path.append(moved(h, path[-1], alpha))
    dm, ds, gradient = h * path[-1][0], 0.5 * h, np.zeros_like(rates)
    for k in range(len(rates) - 1, -1, -1):
        (m, s), alpha = path[k], rates[k]
        gradient[k] = (-dm * h * m + ds * (-2 * h * (1 - alpha * h) * s + 2 * alpha * h)).sum()
        dm, ds = dm * (1 - alpha * h), ds * (1 - alpha * h) ** 2
    return expected(h, path[-1]), gradient


def learned(h: Any, state: tuple[Any, Any], horizon: int, start: float) -> Any:
    """Rates of least expected loss after `horizon` steps, by Adam on their logarithms."""
    optimizer, logs = fm.Adam(0.03), np.full(horizon, np.log(start))
    moments = optimizer.init(logs)
    for _ in range(600):
        slope = slopes(h, state, np.exp(logs))[1] * np.exp(logs)
        logs, moments = optimizer.update(logs, slope / max(np.abs(slope).max(), 1e-300), moments)
    return np.exp(logs)


def engine_gap(rates: Any) -> float:
    """The largest relative gap between the lab's loss and rates' gradient and theory's.

    Tasks take the signs of the columns of a Hadamard matrix as the noise of each step: all their means and products
    are those of independent noise.
    """
    steps, h = len(rates), 1 / np.arange(1, 6)
    signs = np.array([[1]])
    while len(signs) <= steps:
        signs = np.block([[signs, signs], [signs, -signs]])
    tasks, n = len(signs), len(h)
    net, x = fm.MLP((n, 1)), np.tile(np.diag(np.sqrt(n * h / 2)), (tasks, 1, 1))
    noise = signs[:, 1 : steps + 1, None] / np.sqrt(h)  # (T, S, n)

    def support(k: int) -> tuple[Any, Any]:
        return x, (np.sqrt(n * h / 2) * noise[:, k])[..., None]

    still = np.zeros((tasks, n, 1))
    batch = fm.Batch(x, still, x, still)
    theta, by_array = np.r_[np.ones(n), 0.0], np.stack([rates, np.zeros(steps)], axis=1)
    found = fm.lab.trace(net, theta, batch, by_array, steps, support=support, device="numpy")
    gradient = np.empty(steps)
    for k in range(steps):
        slope = fm.gradient(net, found.phis[k], *support(k), device="numpy")[1][:, :n]
        gradient[k] = -(slope * found.sweep[steps - 1 - k][:, :n]).sum(axis=1).mean()
    loss, exact = slopes(h, (np.ones(n), np.zeros(n)), np.asarray(rates))
    return float(max(abs(found.query_losses.mean() / loss - 1), np.abs(gradient - exact).max() / np.abs(exact).max()))


def claims(numbers: dict[str, Any]) -> dict[str, bool]:
    """The engine is the closed form; greedy rates fall early and end at a larger loss."""
    names = [name for name in numbers if name.startswith("horizon")]
    greedy, whole = numbers[names[0]], numbers[names[-1]]
    early = len(greedy["rates"]) // 4
    ratio = greedy["losses"][-1] / whole["losses"][-1]
    ends = ", ".join(f"{name} {numbers[name]['losses'][-1]:.3f}" for name in names)
    return {
        f"the engine's loss and rates' gradient are the closed form's ({numbers['gap']:.0e})": numbers["gap"] < 1e-10,
        f"greedy rates fall early: {greedy['rates'][early]:.3f} at step {early}, {whole['rates'][early]:.3f} over the "
        "whole": greedy["rates"][early] < 0.7 * whole["rates"][early],
        f"and end at {ratio:.2f} of the loss ({ends})": ratio > 1.2,
    }


def draw(numbers: dict[str, Any], path: Path) -> None:
    """Rates and losses over steps."""
    from fastmeta import plots
    from fastmeta.lab import pictures

    figure = plots.new_figure(9.0, 3.6)
    names = [name for name in numbers if name.startswith("horizon")]
    for axes, what in zip(figure.subplots(1, 2), ("rates", "losses"), strict=True):
        lines = {name: np.array(numbers[name][what]) for name in names}
        at = np.arange(1, len(lines[names[0]]) + 1)
        pictures.draw_curves(axes, at, lines, "inner step", ylabel=what, log=True)
    plots.save(figure, path)
