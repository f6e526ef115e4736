"""How far first order is from the exact gradient through MAML's training on images, with the inner loop's sharpness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fastmeta as fm
from benchmarks.figures import Options
from benchmarks.figures.trained import images, network

ITERATIONS, EVERY = 700, 50


def measure(small: bool, options: Options) -> dict[str, Any]:
    """The probe's records, a list a measure."""
    maml = fm.MAML(network(small), 0.4, 1)
    probe = fm.lab.Probe(
        maml, images(small, options, "test"), 5 if small else EVERY, tasks_per_probe=4 if small else 8, products=12
    )
    maml.fit(images(small, options, "train"), 10 if small else ITERATIONS, tasks_per_step=16, callback=probe)
    return {name: [record[name] for record in probe.records] for name in probe.records[0]}


def claims(numbers: dict[str, Any]) -> dict[str, bool]:
    """The numbers of the middle of training, and two things that hold of all of it."""
    cosine, ratio, sharp, after = (numbers[n] for n in ("cosine", "norm ratio", "sharpness", "sharpness after"))
    return {
        f"FOMAML's cosine with the exact gradient stays below 0.8 ({min(cosine):.2f} .. {max(cosine):.2f}), its norm "
        f"is {min(ratio):.2f} .. {max(ratio):.2f} of it": max(cosine) < 0.8,
        f"alpha lambda_max at theta is above 2 all the time ({min(sharp):.1f} .. {max(sharp):.1f})": min(sharp) > 2,
        f"one inner step takes it below 2 from the second probe on ({max(after[1:]):.2f} at most)": max(after[1:]) < 2,
    }


def draw(numbers: dict[str, Any], path: Path) -> None:
    """Cosine and norm ratio; sharpness before and after the step."""
    import numpy as np

    from fastmeta import plots
    from fastmeta.lab import pictures

    figure = plots.new_figure(9.0, 3.6)
    left, right = figure.subplots(1, 2)
    for axes, names, level in (
        (left, ("cosine", "norm ratio"), None),
        (right, ("sharpness", "sharpness after"), 2.0),
    ):
        lines = {name: np.array(numbers[name]) for name in names}
        pictures.draw_curves(axes, numbers["iteration"], lines, "iteration", level=level, log=level is not None)
    plots.save(figure, path)
