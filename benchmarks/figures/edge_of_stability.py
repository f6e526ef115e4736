"""MAML tunes its own inner loop to the edge of stability: alpha lambda_max through training on sinusoids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import fastmeta as fm
from benchmarks.figures import Options

RATES, SEEDS, ITERATIONS, EVERY, STEPS = (0.005, 0.01), (0, 1), 2000, 250, 5


def measure(small: bool, options: Options) -> dict[str, Any]:
    """{"tanh, alpha 0.01": {"iterations": [...], "median": [seeds][...], "largest": [seeds][...]}, ...}."""
    found = {}
    for activation in ("tanh",) if small else ("tanh", "relu"):
        for rate in RATES[1:2] if small else RATES:
            rows = [one(activation, rate, seed, small) for seed in (SEEDS[:1] if small else SEEDS)]
            found[f"{activation}, alpha {rate}"] = {
                "iterations": [r["iteration"] for r in rows[0]],
                "median": [[r["sharpness"] for r in records] for records in rows],
                "largest": [[r["largest sharpness"] for r in records] for records in rows],
                "loss": [[r["loss after"] for r in records] for records in rows],
            }
    return found


def one(activation: str, rate: float, seed: int, small: bool) -> list[dict[str, float]]:
    """The records of one training."""
    net, tasks = fm.MLP((1, 40, 40, 1), activation), fm.tasks.Sinusoid(shots=10, queries=10)
    maml = fm.MAML(net, rate, STEPS, device="numpy" if small else "cpu")
    what = ("sharpness", "adaptation")
    probe = fm.lab.Probe(maml, tasks, 100 if small else EVERY, what, tasks_per_probe=10, products=12)
    maml.fit(tasks, 200 if small else ITERATIONS, tasks_per_step=25, seed=seed, callback=probe)
    return probe.records


def claims(numbers: dict[str, Any]) -> dict[str, bool]:
    """What holds of the median over tasks: it rises at each rate, stays below 2 with tanh, and the rates end alike."""
    found, ends = {}, {}
    for name, one in numbers.items():
        if not isinstance(one, dict):
            continue
        first, last = (np.array(one["median"])[:, i] for i in (0, -1))
        ends[name] = last.mean()
        text = f"{name}: median alpha lambda_max {first.mean():.2f} -> {last.mean():.2f} ({last.min():.2f} .. "
        found[f"{text}{last.max():.2f} over seeds) rises"] = bool((last > first).all())
        if name.startswith("tanh"):
            found[f"{name}: ends below 2 in the median"] = bool((last < 2).all())
    tanh = [end for name, end in ends.items() if name.startswith("tanh")]
    if len(tanh) > 1:
        text = f"tanh: both rates end at {min(tanh):.2f} .. {max(tanh):.2f}, within a factor of 1.5"
        found[text] = max(tanh) < 1.5 * min(tanh)
    return found


def draw(numbers: dict[str, Any], path: Path) -> None:
    """A panel an activation, a line a rate: the median over tasks, mean over seeds."""
    from fastmeta import plots
    from fastmeta.lab import pictures

    kinds = sorted({name.split(",")[0] for name, v in numbers.items() if isinstance(v, dict)}, reverse=True)
    figure = plots.new_figure(4.5 * len(kinds), 3.6)
    for axes, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        chosen = {n: v for n, v in numbers.items() if n.startswith(kind)}
        lines = {n.split(", ")[1]: np.mean(v["median"], axis=0) for n, v in chosen.items()}
        at = next(iter(chosen.values()))["iterations"]
        pictures.draw_curves(axes, at, lines, "iteration", ylabel="alpha lambda_max, median", level=2.0)
        axes.set_title(kind, loc="left", fontsize=10)
    plots.save(figure, path)
