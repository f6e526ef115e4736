"""Memorisation (Yin et al. 2020, arXiv 1912.03820): what adaptation adds to the score, the gain that a flag needs.

Sinusoids and characters whose labels are drawn anew leave nothing to memorise. Where a character has the same label in
every task, theta alone knows the training tasks, and adaptation adds next to nothing there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import fastmeta as fm
from benchmarks.figures import Options
from benchmarks.figures.trained import ITERATIONS, fitted, images, maml, network
from fastmeta.tasks.labelled import LabelledTasks

EPISODES = 300


class FixedLabels:
    """Tasks of one character of each of 5 fixed groups, labelled by its group: a supervised problem in disguise."""

    def __init__(self, tasks: LabelledTasks, most: int = 50) -> None:
        self.tasks = tasks
        ranks = np.unique(tasks.y, return_inverse=True)[1]
        chosen = ranks < most
        self.x, self.y = tasks.x[chosen], ranks[chosen]

    def sample(self, tasks: int, seed: int, step: int = 0) -> fm.Batch:
        """A meta-batch, a pure function of seed and step."""
        rng, ways = np.random.default_rng([seed, step]), 5
        kinds, need = int(self.y.max()) + 1, self.tasks.shots + self.tasks.queries
        rows = np.empty((tasks, ways, need), np.int64)
        for task in range(tasks):
            for way in range(ways):
                kind = ways * rng.integers(kinds // ways) + way
                rows[task, way] = rng.permutation(np.flatnonzero(self.y == kind))[:need]
        y = np.repeat(np.arange(ways), need).reshape(1, ways, need).repeat(tasks, axis=0)
        x, shots = self.x[rows].astype(np.float32) / (255 if self.x.dtype == np.uint8 else 1), self.tasks.shots
        parts = [(x[:, :, :shots], y[:, :, :shots]), (x[:, :, shots:], y[:, :, shots:])]
        flat = [values.reshape(tasks, -1, *values.shape[3:]) for pair in parts for values in pair]
        return fm.Batch(*flat)


def measure(small: bool, options: Options) -> dict[str, Any]:
    """Scores without adaptation and after it, and their difference."""
    sine = fm.tasks.Sinusoid(shots=10, queries=10)
    device = "numpy" if small else "cpu"
    one = fm.MAML(fm.MLP((1, 40, 40, 1)), 0.01, 1, device=device)
    one.fit(sine, 100 if small else 5000, tasks_per_step=25)
    fixed = FixedLabels(images(small, options, "train"))
    memorised = fitted(
        "memorised", lambda: fm.MAML(network(small), 0.4, 1), small, options, ITERATIONS // 3, tasks=fixed
    )
    rows = {
        "sinusoids, mean squared error": (one, sine),
        "characters, labels drawn": (maml(small, options), images(small, options, "test")),
        "characters, labels fixed, training classes": (memorised, fixed),
    }
    found = {}
    for name, (learner, tasks) in rows.items():
        steps = learner.inner_steps
        scores = learner.evaluate(tasks, 10 if small else EPISODES, inner_steps=[0, steps], seed=7)
        gain = fm.compare(scores[steps], scores[0])
        found[name] = {"before": scores[0].mean, "after": scores[steps].mean, "gain": gain.mean, "interval": gain.ci95}
    return found


def claims(numbers: dict[str, Any]) -> dict[str, bool]:
    """A large gain where tasks need adaptation; less than a point, at a high score, where labels are fixed."""
    sine, drawn, fixed = (one for one in numbers.values() if isinstance(one, dict))
    return {
        f"sinusoids: {sine['before']:.2f} -> {sine['after']:.2f}": sine["after"] < 0.5 * sine["before"],
        f"labels drawn: {100 * drawn['before']:.1f} -> {100 * drawn['after']:.1f} %": drawn["gain"] > 0.3,
        f"labels fixed: {100 * fixed['before']:.1f} -> {100 * fixed['after']:.1f} %, memorised": (
            fixed["before"] > 0.8 and fixed["gain"] < 0.1 * drawn["gain"]
        ),
    }


def draw(numbers: dict[str, Any], path: Path) -> None:
    """Bars before and after, of the classifications."""
    from fastmeta.lab import pictures

    names = [name for name, one in numbers.items() if isinstance(one, dict) and name.startswith("char")]
    bars = {when: np.array([100 * numbers[name][when] for name in names]) for when in ("before", "after")}
    pictures.bars(path, [name.split(", ", 1)[1] for name in names], bars, "accuracy, %")
