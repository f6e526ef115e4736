"""Pictures of what the instruments found. Needs Matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastmeta import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[Any]


def curves(
    path: str | Path,
    x: Sequence[float] | Array,
    values: Mapping[str, Array],
    xlabel: str,
    *,
    ylabel: str = "",
    level: float | None = None,
    log: bool = False,
) -> None:
    """Write a PNG of values over x (n,), a line a name; `level` is a dashed line across."""
    figure = plots.new_figure(6.0, 4.0)
    draw_curves(figure.subplots(), x, values, xlabel, ylabel=ylabel, level=level, log=log)
    plots.save(figure, path)


def draw_curves(
    axes: Axes,
    x: Sequence[float] | Array,
    values: Mapping[str, Array],
    xlabel: str,
    *,
    ylabel: str = "",
    level: float | None = None,
    log: bool = False,
) -> None:
    """The same into a panel of a larger picture."""
    if level is not None:
        axes.axhline(level, color=plots.ACCENT, linewidth=1, linestyle="--")
    for (name, line), shade in zip(values.items(), plots.shades(len(values)), strict=True):
        axes.plot(x, line, color=shade, marker="o", markersize=3, linewidth=1.8, label=name)
    if log:
        axes.set_yscale("log")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.legend(frameon=False, fontsize=9)
    plots.plain(axes)


def stems(path: str | Path, x: Array, heights: Array, xlabel: str, ylabel: str) -> None:
    """Write a PNG with a line of height (n,) at each x (n,), on a logarithmic scale."""
    figure = plots.new_figure(6.0, 4.0)
    axes = figure.subplots()
    floor = max(float(heights.min()), 1e-12) / 2
    axes.vlines(x, floor, heights, color=plots.STEPS[2], linewidth=1.8)
    axes.scatter(x, heights, s=18, color=plots.STEPS[3], zorder=5)
    axes.set_yscale("log")
    axes.axvline(0, color=plots.FAINT, linewidth=1)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    plots.plain(axes)
    plots.save(figure, path)


def surface(path: str | Path, a: Array, b: Array, heights: Array, xlabel: str, ylabel: str, name: str) -> None:
    """Write a PNG of heights (a, b) as filled contours; where only one axis has more than one value, as a curve."""
    figure = plots.new_figure(6.0, 4.6)
    axes = figure.subplots()
    if min(heights.shape) == 1:
        x, label = (a, xlabel) if len(a) >= len(b) else (b, ylabel)
        draw_curves(axes, x, {name: heights.ravel()}, label, ylabel=name)
    else:
        filled = axes.contourf(a, b, heights.T, levels=24, cmap="Blues")
        axes.contour(a, b, heights.T, levels=12, colors=plots.INK, linewidths=0.4)
        axes.scatter([0], [0], color=plots.ACCENT, s=26, zorder=5)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        figure.colorbar(filled, label=name)
    plots.save(figure, path)


def bars(path: str | Path, names: Sequence[str], values: Mapping[str, Array], ylabel: str) -> None:
    """Write a PNG with a group of bars a name; values: legend -> (names,)."""
    figure = plots.new_figure(max(5.0, 1.0 + 0.7 * len(names)), 4.0)
    axes = figure.subplots()
    draw_bars(axes, names, values, ylabel)
    plots.save(figure, path)


def draw_bars(axes: Axes, names: Sequence[str], values: Mapping[str, Array], ylabel: str) -> None:
    """The same into a panel of a larger picture."""
    width = 0.8 / len(values)
    for i, ((name, heights), shade) in enumerate(zip(values.items(), plots.shades(len(values)), strict=True)):
        axes.bar(np.arange(len(names)) + (i - (len(values) - 1) / 2) * width, heights, width, color=shade, label=name)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_ylabel(ylabel)
    axes.legend(frameon=False, fontsize=9)
    plots.plain(axes)
