"""MAML++'s figure 1 (Antoniou et al. 2019, arXiv 1810.09502): losses that jump, with the sharpness beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import fastmeta as fm
from benchmarks.figures import Options
from benchmarks.figures.trained import images, network

STEPS, SEEDS, ITERATIONS, EVERY = 5, (0, 1, 2), 300, 30
KINDS = ("alpha 0.4", "alpha 0.1", "alpha 0.1, learned by step and array")


def measure(small: bool, options: Options) -> dict[str, Any]:
    """Losses (iterations / EVERY, means) and the probes' largest sharpness, a list a seed."""
    train, test, found = (*(images(small, options, part) for part in ("train", "test")), dict[str, Any]())
    for kind in KINDS:
        rows = [one(kind, seed, small, train, test) for seed in (SEEDS[:1] if small else SEEDS)]
        found[kind] = {name: [row[name] for row in rows] for name in rows[0]}
    return found


def one(kind: str, seed: int, small: bool, train: Any, test: Any) -> dict[str, Any]:
    """A training: its jumps, its end and its sharpness."""
    net = network(small, channels=16)
    if kind == KINDS[2]:
        learner: Any = fm.MAMLPlusPlus(net, 0.1, STEPS, multi_step_iterations=0, step_norms=False)
    else:
        learner = fm.MAML(net, float(kind.split()[1]), STEPS)
    what = ("sharpness",)
    probe = fm.lab.Probe(learner, test, 5 if small else EVERY, what, tasks_per_probe=4, products=8)
    learner.fit(
        train, 10 if small else ITERATIONS, tasks_per_step=4, optimizer=fm.Adam(1e-3), seed=seed, callback=probe
    )
    losses = learner.history["loss"]
    width = 5 if small else EVERY
    return {
        "losses": losses[: len(losses) // width * width].reshape(-1, width).mean(axis=1),
        "roughness": float(np.abs(np.diff(losses)).mean() / losses.mean()),
        "end": float(losses[-width:].mean()),
        "sharpness": [record["largest sharpness"] for record in probe.records],
    }


def claims(numbers: dict[str, Any]) -> dict[str, bool]:
    """The large rate is sharper, rougher and ends no better; the correlation is printed."""
    sharp = {kind: float(np.median(numbers[kind]["sharpness"])) for kind in KINDS}
    rough = {kind: float(np.mean(numbers[kind]["roughness"])) for kind in KINDS}
    end = {kind: float(np.mean(numbers[kind]["end"])) for kind in KINDS}
    pairs = [
        (np.median(s), r)
        for k in KINDS
        for s, r in zip(*(numbers[k][n] for n in ("sharpness", "roughness")), strict=True)
    ]
    together = float(np.corrcoef(np.log(np.array(pairs)).T)[0, 1]) if len(pairs) > 3 else float("nan")
    shown = "; ".join(f"{k}: {sharp[k]:.1f}, {rough[k]:.2f}, {end[k]:.2f}" for k in KINDS)
    return {
        f"alpha 0.4 has the larger max alpha lambda_max than 0.1 (sharpness, roughness, end: {shown})": sharp[KINDS[0]]
        > sharp[KINDS[1]],
        f"log sharpness and log roughness go together over all runs (correlation {together:.2f})": together > 0,
    }


def draw(numbers: dict[str, Any], path: Path) -> None:
    """Losses and sharpness, seeds together."""
    from fastmeta import plots
    from fastmeta.lab import pictures

    figure = plots.new_figure(9.5, 3.6)
    left, right = figure.subplots(1, 2)
    losses = {kind: np.mean(numbers[kind]["losses"], axis=0) for kind in KINDS}
    sharp = {kind: np.median(numbers[kind]["sharpness"], axis=0) for kind in KINDS}
    at = EVERY * np.arange(1, len(losses[KINDS[0]]) + 1)
    pictures.draw_curves(left, at, losses, "iteration", ylabel="query loss, mean of seeds")
    probes = np.arange(len(sharp[KINDS[0]])) * EVERY
    pictures.draw_curves(right, probes, sharp, "iteration", ylabel="max alpha lambda_max", level=2.0, log=True)
    plots.save(figure, path)
