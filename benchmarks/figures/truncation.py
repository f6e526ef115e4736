"""Truncated meta-gradients (Shaban et al. 2019, arXiv 1810.10667): bias decays where alpha lambda_max < 2 only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import fastmeta as fm
from benchmarks.figures import Options

RATES, STEPS = (0.01, 0.05), 10


def measure(small: bool, options: Options) -> dict[str, Any]:
    """Relative errors of the gradient through the last 0 .. S steps, at theta before and after training."""
    net, tasks = fm.MLP((1, 40, 40, 1), "tanh"), fm.tasks.Sinusoid(shots=10, queries=10)
    maml = fm.MAML(net, 0.01, 5, device="numpy" if small else "cpu")
    maml.fit(tasks, 30 if small else 2000, tasks_per_step=25)
    batch, found = tasks.sample(25, seed=1), {"quadratic": quadratic()}
    for when, theta in (("first theta", net.init(0, "float64")), ("trained", maml.theta.astype(np.float64))):
        for rate in RATES:
            sweep = fm.lab.trace(net, theta, batch, rate, STEPS, device=maml.device)
            sharp = fm.lab.inner_spectrum(net, theta, batch, rate, 1, products=12, device=maml.device)
            found[f"{when}, alpha {rate}"] = {
                "errors": sweep.errors(),
                "cosines": sweep.cosines(),
                "sharpness": float(np.median(sharp.largest[0])),
            }
    return found


def quadratic() -> float:
    """The largest relative gap to (1 - alpha d)^m grad Q on L = |phi - c|_D^2 / 2, over m."""
    net, curvature = fm.MLP((3, 1)), np.array([0.5, 1.0, 2.0])
    x, y = np.diag(np.sqrt(3 * curvature / 2))[None], np.ones((1, 3, 1))
    sweep = fm.lab.trace(
        net, np.array([0.3, -0.2, 0.7, 0.0]), fm.Batch(x, y, x, 2 * y), [0.4, 0.0], STEPS, device="numpy"
    )
    gaps = []
    for m in range(STEPS + 1):
        expected = (1 - 0.4 * curvature) ** m * sweep.first_order[:3]
        gaps.append(np.abs(sweep.truncated(m)[:3] - expected).max() / np.abs(expected).max())
    return float(max(gaps))


def claims(numbers: dict[str, Any]) -> dict[str, bool]:
    """Exact on a quadratic; decays below alpha lambda_max = 2, does not above."""
    found = {f"exact on a quadratic ({numbers['quadratic']:.0e})": numbers["quadratic"] < 1e-12}
    for name, one in numbers.items():
        if isinstance(one, dict):
            late, first = max(one["errors"][-3:-1]), one["errors"][0]
            text = (
                f"{name}: alpha lambda_max {one['sharpness']:.2f}, error {first:.2f} of FOMAML, {late:.2f} one or two"
            )
            if one["sharpness"] < 1:
                found[f"{text} steps from the whole sweep: it decays"] = late < 0.25 * max(first, 0.4)
            if one["sharpness"] > 2.5:
                found[f"{text} steps from the whole sweep: it does not decay"] = late > 0.4
    return found


def draw(numbers: dict[str, Any], path: Path) -> None:
    """Errors over the steps that the gradient goes back through."""
    from fastmeta.lab import pictures

    lines = {f"{n} ({v['sharpness']:.1f})": np.array(v["errors"]) for n, v in numbers.items() if isinstance(v, dict)}
    pictures.curves(path, range(STEPS + 1), lines, "last inner steps (in brackets: alpha lambda_max)", ylabel="error")
