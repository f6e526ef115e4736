"""Reptile's Taylor terms (Nichol et al. 2018, arXiv 1803.02999, section 5): how much AvgGradInner each gradient holds.

Over all orders of k mini-batches, MAML's gradient is AvgGrad - 2 (k - 1) alpha AvgGradInner + O(alpha^2), FOMAML's has
k - 1 of it and the sum of all k inner gradients k (k - 1) / 2.
"""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

import fastmeta as fm
from benchmarks.figures import Options

RATES = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
THEORY = {"MAML": lambda k: 2 * (k - 1), "FOMAML": lambda k: k - 1, "Reptile": lambda k: k * (k - 1) / 2}


def measure(small: bool, options: Options) -> dict[str, Any]:
    """{k: {"MAML": {"coefficients": [...], "residuals": [...]}, ...}}, an entry a rate."""
    net = fm.MLP((1, 8, 8, 1) if small else (1, 20, 20, 1), "tanh")
    theta = net.init(0, "float64")
    found: dict[str, Any] = {"rates": RATES}
    for k in (3,) if small else (2, 3, 4, 5):
        batch = fm.tasks.Sinusoid(shots=2 * k, queries=1).sample(1, seed=0)
        x, y = (np.reshape(part[0], (k, 2, 1)).astype(np.float64) for part in (batch.x_support, batch.y_support))
        found[str(k)] = terms(net, theta, x, y)
    return found


def terms(net: fm.Network, theta: Any, x: Any, y: Any) -> dict[str, Any]:
    """Coefficients and relative residuals for k mini-batches x (k, N, F), y."""
    k = len(x)
    orders = np.array(list(permutations(range(k))))  # (k!, k)
    gradients = fm.gradient(net, np.tile(theta, (k, 1)), x, y, device="numpy")[1]
    mean = gradients.mean(axis=0)
    pairs = [(i, j) for i in range(k) for j in range(k) if i != j]
    inner = sum(fm.hvp(net, theta, gradients[j], x[i], y[i], device="numpy") for i, j in pairs) / len(pairs)
    found: dict[str, Any] = {name: {"coefficients": [], "residuals": []} for name in THEORY}
    for alpha in RATES:
        last = fm.Batch(x[orders[:, -1]], y[orders[:, -1]], x[orders[:, -1]], y[orders[:, -1]])
        sweep = fm.lab.trace(
            net, theta, last, alpha, k - 1, device="numpy", support=lambda i: (x[orders[:, i]], y[orders[:, i]])
        )
        sums = (theta - sweep.phis[-1]).mean(axis=0) / alpha + sweep.first_order
        for name, found_one, of_mean in (
            ("MAML", sweep.exact, 1),
            ("FOMAML", sweep.first_order, 1),
            ("Reptile", sums, k),
        ):
            change = (of_mean * mean - found_one) / alpha
            rest = np.linalg.norm(change - THEORY[name](k) * inner) * alpha / np.linalg.norm(mean)
            found[name]["coefficients"].append(float(change @ inner / (inner @ inner)))
            found[name]["residuals"].append(float(rest))
    return found


def claims(numbers: dict[str, Any]) -> dict[str, bool]:
    """Coefficients within 2 % of theory at the smallest rate; residuals fall as alpha^2."""
    gaps, slopes = [], []
    for k, by_name in ((k, v) for k, v in numbers.items() if k.isdigit()):
        for name, one in by_name.items():
            theory = THEORY[name](int(k))
            gaps.append(abs(one["coefficients"][-1] / theory - 1))
            slopes.append(np.polyfit(np.log(numbers["rates"][1:]), np.log(one["residuals"][1:]), 1)[0])
    return {
        f"coefficients within 2 % of theory at alpha 1e-4 (largest gap {100 * max(gaps):.2f} %)": max(gaps) <= 0.02,
        f"residuals fall as alpha^2 (slopes {min(slopes):.2f} .. {max(slopes):.2f})": (
            max(abs(s - 2) for s in slopes) <= 0.1
        ),
    }


def draw(numbers: dict[str, Any], path: Path) -> None:
    """Residuals over alpha."""
    from fastmeta import plots
    from fastmeta.lab import pictures

    figure = plots.new_figure(9.0, 3.6)
    ks = [k for k in numbers if k.isdigit()]
    left, right = figure.subplots(1, 2)
    for axes, what in ((left, "coefficients"), (right, "residuals")):
        lines = {f"{name}, k = {ks[-1]}": np.array(numbers[ks[-1]][name][what]) for name in THEORY}
        pictures.draw_curves(axes, numbers["rates"], lines, "alpha", ylabel=what, log=what == "residuals")
        axes.set_xscale("log")
    for name in THEORY:
        left.axhline(THEORY[name](int(ks[-1])), color=plots.ACCENT, linewidth=1, linestyle="--")
    plots.save(figure, path)
