"""ANIL's table 1 (Raghu et al. 2020, arXiv 1909.09157): MAML's accuracy when its first layers do not adapt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import fastmeta as fm
from benchmarks.figures import Options
from benchmarks.figures.trained import images, maml, with_sizes

EPISODES = 600
ARRAYS = 3  # of a block: the convolution's weight, the norm's scale and shift


def measure(small: bool, options: Options) -> dict[str, Any]:
    """Accuracy with the first 0 .. 4 blocks frozen, and with nothing adapted."""
    learner, tasks = maml(small, options), with_sizes(images(small, options, "test"), 1, 5)
    found, arrays = dict[str, Any](), len(learner.net.parameter_shapes)
    for blocks in range(5):
        rates = np.full(arrays, 0.4)
        rates[: ARRAYS * blocks] = 0
        frozen = fm.MAML(learner.net, rates, 1).fit(tasks, 0, theta=learner.theta)
        score = frozen.evaluate(tasks, 10 if small else EPISODES)
        found[f"{blocks} blocks"] = {"accuracy": score.mean, "interval": score.ci95}
    score = learner.evaluate(tasks, 10 if small else EPISODES, inner_steps=0)
    return found | {"nothing adapts": {"accuracy": score.mean, "interval": score.ci95}}


def claims(numbers: dict[str, Any]) -> dict[str, bool]:
    """Flat to within a point while blocks 1 to 3 are frozen; chance where nothing adapts."""
    accuracy = [100 * one["accuracy"] for one in numbers.values() if isinstance(one, dict)]
    shown = ", ".join(f"{value:.1f}" for value in accuracy)
    return {
        f"within a point with blocks 1 to 3 frozen ({shown})": max(abs(a - accuracy[0]) for a in accuracy[:4]) <= 1,
        "at chance where nothing adapts": abs(accuracy[-1] - 20) < 4,
    }


def draw(numbers: dict[str, Any], path: Path) -> None:
    """A bar a number of frozen blocks."""
    from fastmeta.lab import pictures

    names = [name for name, one in numbers.items() if isinstance(one, dict)]
    heights = np.array([100 * numbers[name]["accuracy"] for name in names])
    pictures.bars(path, names, {"frozen at test": heights}, "accuracy, %")
