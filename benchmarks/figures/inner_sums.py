"""Reptile's figure 3 (Nichol et al. 2018, arXiv 1803.02999): which inner gradients to sum into the outer step.

Four inner steps, each on a mini-batch of its own, give g1 .. g4; the outer step takes one of them or a sum.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import fastmeta as fm
from benchmarks.figures import Options
from benchmarks.figures.trained import images, network, with_sizes

SUMS = {"g1": (0,), "g1 + g2": (0, 1), "g1 + .. + g3": (0, 1, 2), "g1 + .. + g4": (0, 1, 2, 3), "g4": (3,)}
STEPS, RATE, ITERATIONS, EPISODES = 4, 0.1, 800, 300


class InnerSums(fm.GradientLearner):
    """Outer steps along a sum of inner gradients, each of the next shot of every class of the support set."""

    def __init__(
        self, net: fm.Network, inner_lr: float = RATE, chosen: tuple[int, ...] = (3,), device: str = "cpu"
    ) -> None:
        super().__init__(net, inner_lr, STEPS, device)
        self.chosen = tuple(chosen)

    def meta_gradients(self, batch: fm.Batch) -> tuple[float, dict[str, Any]]:
        """The mean of the chosen gradients, at the phis on the way."""
        tasks, ways = len(batch), int(batch.y_support.max()) + 1
        phi, total, losses = np.tile(self.theta, (tasks, 1)), 0.0, []
        by_class = np.argsort(batch.y_support, axis=1, kind="stable").reshape(tasks, ways, STEPS)
        for k in range(STEPS):
            rows = np.arange(tasks)[:, None], by_class[:, :, k]
            loss, slope = fm.gradient(self.net, phi, batch.x_support[rows], batch.y_support[rows], device=self.device)
            losses.append(float(loss.mean()))
            total = total + slope.mean(axis=0) / len(self.chosen) if k in self.chosen else total
            phi = phi - np.float32(self.inner_lr) * slope
        return losses[-1], {"theta": total}


def measure(small: bool, options: Options) -> dict[str, Any]:
    """Accuracy on new classes, 5-way 5-shot, after training on each sum; and g4 without any training."""
    train, test = (images(small, options, part, STEPS, 1) for part in ("train", "test"))
    test, found = with_sizes(test, 5, 5), {}
    for name, chosen in SUMS.items():
        learner = InnerSums(network(small), chosen=chosen)
        optimizer = fm.Adam(1e-3)
        learner.fit(train, 3 if small else ITERATIONS, tasks_per_step=5, optimizer=optimizer)
        score = learner.evaluate(test, 10 if small else EPISODES, inner_steps=5)
        found[name] = {"accuracy": score.mean, "interval": score.ci95}
    return found


def claims(numbers: dict[str, Any]) -> dict[str, bool]:
    """g1 alone, joint training, is worst; the last gradient and the sums beat it."""
    accuracy = {name: one["accuracy"] for name, one in numbers.items() if isinstance(one, dict)}
    shown = ", ".join(f"{name} {100 * value:.1f}" for name, value in accuracy.items())
    rest = [value for name, value in accuracy.items() if name != "g1"]
    return {
        f"g1 is the worst ({shown})": accuracy["g1"] < min(rest),
        "each further gradient in the sum helps": accuracy["g1"]
        < accuracy["g1 + g2"]
        < accuracy["g1 + .. + g3"]
        < accuracy["g1 + .. + g4"],
        "the whole sum, Reptile, is above g4, FOMAML": accuracy["g1 + .. + g4"] > accuracy["g4"],
    }


def draw(numbers: dict[str, Any], path: Path) -> None:
    """A bar a sum."""
    from fastmeta.lab import pictures

    names = [name for name, one in numbers.items() if isinstance(one, dict)]
    heights = np.array([100 * numbers[name]["accuracy"] for name in names])
    pictures.bars(path, names, {"5-way 5-shot": heights}, "accuracy on new classes, %")
