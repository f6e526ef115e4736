"""Pictures of policies: paths to goals, returns and exploration over a training. Needs Matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fastmeta import plots
from fastmeta.rl.trajectories import Trajectories
from fastmeta_kernels.contract import Array


def paths(path: str | Path, goals: Array, attempts: Sequence[Trajectories], shown: int = 5) -> None:
    """A PNG with a panel a task: its goal (2,), and `shown` trajectories after each number of steps."""
    figure = plots.new_figure(3.2 * len(goals), 3.4)
    panels = np.atleast_1d(figure.subplots(1, len(goals), sharex=True, sharey=True))
    shades = plots.shades(len(attempts))
    for task, (axes, goal) in enumerate(zip(panels, goals, strict=True)):
        for steps, (data, color) in enumerate(zip(attempts, shades, strict=True)):
            for r in range(min(shown, data.rewards.shape[1])):
                walked = data.observations[task, r, : np.asarray(data.lengths)[task, r], :2]
                label = f"{steps} inner step{'' if steps == 1 else 's'}" if r == 0 else None
                axes.plot(*walked.T, color=color, linewidth=1, label=label)
        axes.plot(*goal, marker="*", markersize=13, color=plots.ACCENT, linestyle="none")
        axes.set_aspect("equal", adjustable="box")
        plots.plain(axes)
    panels[0].legend(frameon=False, fontsize=8)
    plots.save(figure, path)


def returns(path: str | Path, history: Mapping[str, Array], title: str = "") -> None:
    """A PNG of the mean return before and after adaptation, and the entropy of theta's policy, by iteration."""
    figure = plots.new_figure(7.0, 4.5)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    at = 1 + np.arange(len(history["return_after"]))
    above.plot(at, history["return_before"], color=plots.FAINT, linewidth=1.2, label="before adaptation")
    above.plot(at, history["return_after"], color=plots.STEPS[2], linewidth=1.6, label="after")
    below.plot(at, history["entropy"], color=plots.INK, linewidth=1.2)
    above.set(ylabel="mean return")
    below.set(xlabel="iteration", ylabel="entropy, nats")
    above.set_title(title, loc="left", fontsize=10, color=plots.INK)
    above.legend(frameon=False, fontsize=9)
    for axes in (above, below):
        plots.plain(axes)
    plots.save(figure, path)


def exploration(path: str | Path, runs: Mapping[str, Mapping[str, Array]], oracle: float | None = None) -> None:
    """A PNG of the return after adaptation and of theta's entropy for several runs: what each surrogate explores."""
    figure = plots.new_figure(8.0, 3.6)
    left, right = figure.subplots(1, 2)
    for (name, history), color in zip(
        runs.items(), (plots.STEPS[2], plots.ACCENT, plots.INK, plots.FAINT), strict=False
    ):
        window = max(1, len(history["return_after"]) // 20)
        smooth = np.convolve(history["return_after"], np.ones(window) / window, "valid")
        left.plot(np.arange(len(smooth)) + window, smooth, color=color, linewidth=1.6, label=name)
        right.plot(history["entropy"], color=color, linewidth=1.6)
    if oracle is not None:
        left.axhline(oracle, color=plots.FAINT, linewidth=1, linestyle=":", label="oracle")
    left.set(xlabel="iteration", ylabel="reward of a pull after adaptation")
    right.set(xlabel="iteration", ylabel="entropy of theta's policy, nats", ylim=(0, None))
    left.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        plots.plain(axes)
    plots.save(figure, path)
