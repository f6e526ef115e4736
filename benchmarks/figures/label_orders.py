"""UNICORN-MAML's figure 1 (Ye & Chao 2022, arXiv 2106.16245): accuracy by which row of the head each class is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import fastmeta as fm
from benchmarks.figures import Options
from benchmarks.figures.trained import fitted, images, maml, network

EPISODES = 40


class Unicorn(fm.MAML):
    """MAML whose head starts from one vector for all classes."""

    def initial_parameters(self, theta: Any, seed: int = 0) -> dict[str, Any]:
        """theta with every column of the head its mean."""
        return super().initial_parameters(self._tied(theta.copy()), seed)

    def meta_gradients(self, batch: fm.Batch) -> tuple[float, dict[str, Any]]:
        """MAML's, with one slope for all columns."""
        loss, slopes = super().meta_gradients(batch)
        return loss, slopes | {"theta": self._tied(slopes["theta"].copy())}

    def _tied(self, values: Any) -> Any:
        for name, part in list(self.net.views(values).items())[-2:]:
            assert name.startswith("linear")
            part[...] = part.mean(axis=-1, keepdims=True)
        return values


def measure(small: bool, options: Options) -> dict[str, Any]:
    """Accuracies (episodes, orders) of both, as quantiles over orders."""
    tasks, found = images(small, options, "test"), dict[str, Any]()
    unicorn = fitted("unicorn", lambda: Unicorn(network(small), 0.4, 1), small, options)
    for name, learner in (("MAML", maml(small, options)), ("one vector", unicorn)):
        orders = fm.lab.permutations(learner, tasks, 3 if small else EPISODES)
        spread = orders.accuracy.max(axis=1) - orders.accuracy.min(axis=1)
        found[name] = {
            "mean": orders.mean,
            "worst": orders.worst,
            "best": orders.best,
            "fixed": orders.fixed,
            "largest spread": float(spread.max()),
            "ranked": np.sort(orders.accuracy, axis=1).mean(axis=0),
        }
    return found


def claims(numbers: dict[str, Any]) -> dict[str, bool]:
    """MAML hangs on the order; one vector does not, and is no worse."""
    own, tied = numbers["MAML"], numbers["one vector"]
    gap = 100 * (own["best"] - own["worst"])
    return {
        f"MAML: {100 * own['worst']:.1f} in each episode's worst order, {100 * own['best']:.1f} in its best": gap > 1,
        f"one vector: the same in every order (largest spread {tied['largest spread']})": tied["largest spread"] == 0,
        f"one vector is no worse ({100 * tied['mean']:.2f}, MAML {100 * own['mean']:.2f})": tied["mean"] >= own["mean"],
    }


def draw(numbers: dict[str, Any], path: Path) -> None:
    """Accuracy over the rank of the order in its episode."""
    from fastmeta.lab import pictures

    lines = {name: 100 * np.array(numbers[name]["ranked"]) for name in ("MAML", "one vector")}
    orders = np.arange(len(lines["MAML"]))
    pictures.curves(path, orders, lines, "orders of the head's rows, ranked in each episode", ylabel="accuracy, %")
