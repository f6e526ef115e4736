"""Pictures of runs: learning curves, sinusoids before and after adaptation, comparisons. Needs Matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastmeta import checks
from fastmeta.floating import quiet
from fastmeta_kernels.contract import Array
from fastmeta_kernels.files import written_beside

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastmeta.scores.comparison import Difference
    from fastmeta.scores.score import Score

INK, FAINT, ACCENT = "#222222", "#9a9a9a", "#c2410c"
STEPS = (
    "#bfdbfe",
    "#60a5fa",
    "#2563eb",
    "#1e2a78",
)  # light to dark: before adaptation to the most inner steps


@quiet
def learning_curve(path: str | Path, losses: Array, title: str = "", ylabel: str = "query loss") -> None:
    """Write a PNG of the losses (iterations,): every value faint, a running median dark.

    Raises ValueError where there are no losses, ModuleNotFoundError where Matplotlib is missing.
    """
    losses = np.asarray(checks.array("losses", losses), np.float64)
    if losses.ndim != 1 or losses.size == 0:
        raise ValueError(f"losses of shape {losses.shape} must be (iterations,) with at least one value.")
    figure = new_figure(7.0, 4.0)
    axes = figure.subplots()
    window = max(1, losses.size // 100)
    middle, low, high = _running(losses, window)
    at = 1 + np.arange(middle.size) * window + (window - 1) / 2
    axes.fill_between(at, low, high, color=STEPS[0], alpha=0.6, linewidth=0, label="middle 80 %")
    axes.plot(at, middle, color=STEPS[2], linewidth=1.8, label=f"median of {window:,}" if window > 1 else "loss")
    if (losses > 0).all() and losses.max() > 20 * losses.min():
        _logarithmic(axes)
    axes.set_xlim(0, losses.size)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set(xlabel="iteration", ylabel=ylabel)
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.legend(frameon=False, fontsize=9)
    plain(axes)
    save(figure, path)


@quiet
def adaptation(
    path: str | Path,
    x: Array,
    truth: Array,
    x_support: Array,
    y_support: Array,
    predictions: Mapping[int, Array],
) -> None:
    """Write a PNG with a panel a task: the true curve, the support points, the prediction after inner steps.

    x (N,); truth (T, N); x_support and y_support (T, K); predictions: inner steps -> (T, N).
    Raises ModuleNotFoundError where Matplotlib is missing.
    """
    tasks = len(truth)
    figure = new_figure(3.6 * tasks, 3.5)
    panels = figure.subplots(1, tasks, sharey=True, squeeze=False)[0]
    for task, axes in enumerate(panels):
        axes.plot(x, truth[task], color=INK, linewidth=4, alpha=0.22, label="true curve")
        for (steps, values), shade in zip(predictions.items(), shades(len(predictions)), strict=True):
            axes.plot(x, values[task], color=shade, linewidth=1.8, label=_after(steps))
        axes.scatter(
            x_support[task],
            y_support[task],
            s=26,
            color=ACCENT,
            edgecolor="white",
            zorder=5,
            label="support points",
        )
        axes.set(xlabel="x", xlim=(float(np.min(x)), float(np.max(x))))
        plain(axes)
    panels[0].set_ylabel("y")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=9)
    save(figure, path)


@quiet
def comparison(
    path: str | Path, labels: Sequence[str], scores: Sequence[Score], differences: Sequence[Difference]
) -> None:
    """Write a PNG: each score with its 95 % interval over tasks, and each but the first less the first, paired.

    Raises ModuleNotFoundError where Matplotlib is missing.
    """
    figure = new_figure(9.0, 1.6 + 0.55 * len(labels))
    left, right = figure.subplots(1, 2, sharey=True)
    unit = 1.0 if scores[0].measure == "mse" else 100.0
    name = {"accuracy": "accuracy, %", "auc": "ROC-AUC, %", "mse": "mean squared error"}[scores[0].measure]
    for row, score in enumerate(scores):
        _bar(left, unit * score.mean, unit * score.ci95, row, STEPS[2] if row else INK)
    right.axvline(0, color=INK, linewidth=1)
    for row, difference in enumerate(differences, 1):
        _bar(right, unit * difference.mean, unit * difference.ci95, row, ACCENT if difference.significant else FAINT)
    left.set_yticks(range(len(labels)), labels)
    left.set_ylim(len(labels) - 0.5, -0.5)
    left.set_xlabel(f"{name} (95 % over tasks)")
    right.set_xlabel("less the first, paired" + (" (points)" if unit > 1 else ""))
    for axes in (left, right):
        plain(axes)
        axes.grid(axis="x", color="#eeeeee", linewidth=0.8)
    save(figure, path)


@quiet
def convergence(path: str | Path, curves: Mapping[str, Sequence[float]], xlabel: str, ylabel: str) -> None:
    """Write a PNG of errors over steps, which count from 1, on a logarithmic scale; a line a name.

    Raises ModuleNotFoundError where Matplotlib is missing.
    """
    figure = new_figure(6.0, 4.0)
    axes = figure.subplots()
    for (name, errors), shade in zip(curves.items(), shades(len(curves)), strict=True):
        axes.plot(range(1, len(errors) + 1), errors, color=shade, marker="o", markersize=3, linewidth=1.8, label=name)
    axes.set_yscale("log")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.legend(frameon=False, fontsize=9)
    plain(axes)
    save(figure, path)


def shades(count: int) -> list[str]:
    """`count` colours from light to dark."""
    return [STEPS[round(i * (len(STEPS) - 1) / max(count - 1, 1))] for i in range(count)]


def _bar(axes: Axes, middle: float, half: float, row: int, color: str) -> None:
    axes.errorbar([middle], [row], xerr=[half], fmt="o", color=color, markersize=6, capsize=4, linewidth=1.8)


def _after(steps: int) -> str:
    return "before" if steps == 0 else f"after {steps} step{'s' if steps > 1 else ''}"


def _running(values: Array, window: int) -> tuple[Array, Array, Array]:
    whole = values[: values.size // window * window].reshape(-1, window)
    low, middle, high = np.quantile(whole, (0.1, 0.5, 0.9), axis=1)
    return middle, low, high


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, width and height in inches; ModuleNotFoundError where Matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'Plots need Matplotlib, which is not installed: pip install "fastmeta[plots]".'
        ) from error
    return Figure(figsize=(width, height), dpi=150, layout="constrained")  # no pyplot: no window, no global state


def _logarithmic(axes: Axes) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")


def plain(axes: Axes) -> None:
    """Faint axes and grid, as in every picture here."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors="#555555", labelsize=9)
    axes.grid(axis="y", color="#eeeeee", linewidth=0.8)
    axes.set_axisbelow(True)


def save(figure: Figure, path: str | Path) -> None:
    """Write a PNG, whole or not at all."""
    with written_beside(path) as file:
        figure.savefig(file, format="png", facecolor="white")
