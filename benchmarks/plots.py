"""Pictures of results: `python -m benchmarks.plots FILE` draws the curves or the roofline that FILE (JSON) has."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import FASTMETA
from benchmarks.table import best_entries, highest_peak

COLOURS = {"fastmeta": "C3", "jax": "C0", "inductor": "C1", "torch": "C2", "learn2learn": "C4", "numpy": "C7"}
Curves = dict[str, list[list[float]]]
_AXES = {
    "tasks": "tasks",
    "steps": "inner steps",
    "image-steps": "inner steps",
    "width": "width",
    "threads": "threads",
}


def roofline(file: Path) -> Path:
    """Every row of a run under the machine's measured peak and memory bandwidth. Returns the picture's path."""
    results = json.loads(file.read_text("utf-8"))
    plt = _matplotlib()
    peak, bandwidth = highest_peak(results), max(results["bandwidth_gbs"])
    figure, axes = plt.subplots(figsize=(10, 6.5), layout="constrained")
    rows = [row for row in results["rows"] if row["flops"][row["parts"][0]]]
    ends = [0.5 * peak / bandwidth]
    lowest = peak
    for row in rows:
        part = row["parts"][0]
        x = row["flops"][part] / row["bytes"][part]
        ends.append(x)
        entries = [entry for entry in best_entries(row) if entry["status"] == "timed"]
        for entry in entries:
            y = row["flops"][part] / entry["median_ms"][part] / 1e6
            lowest = min(lowest, y)
            own = entry["program"] == FASTMETA
            axes.plot(
                x, y, "o" if own else "x", color=COLOURS[entry["program"]], ms=7 if own else 5, zorder=3 if own else 2
            )
            if own:
                axes.annotate(row["workload"], (x, y), xytext=(5, 4), textcoords="offset points", fontsize=7)
    left, right = min(ends) / 2, max(ends) * 4
    axes.plot([left, peak / bandwidth, right], [left * bandwidth, peak, peak], "k-", lw=1)
    axes.annotate(f"{peak:.0f} GFLOP/s", (right, peak), ha="right", va="bottom")
    axes.annotate(f"{bandwidth:.0f} GB/s", (left, left * bandwidth), va="bottom")
    shown = dict.fromkeys(entry["program"] for row in rows for entry in best_entries(row) if entry["status"] == "timed")
    for program in shown:
        axes.plot([], [], "o" if program == FASTMETA else "x", color=COLOURS[program], label=program)
    axes.set(xscale="log", yscale="log", ylim=(lowest / 2, peak * 1.5), ylabel="GFLOP/s (direct count)")
    axes.set_xlabel("operations a byte of parameters, data and result")
    axes.set_title(_title(results))
    axes.legend()
    return _saved(figure, file.with_name(f"{file.stem}-roofline.png"))


def curves(file: Path) -> Path:
    """Time and peak memory of every curve. Returns the picture's path."""
    results = json.loads(file.read_text("utf-8"))
    plt = _matplotlib()
    panels: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for point in results["points"]:
        rows = point["title"] if point["curve"] == "threads" else ""
        panels.setdefault((point["curve"], rows), []).append(point)
    figure, grid = plt.subplots(2, len(panels), figsize=(4 * len(panels), 7), layout="constrained", squeeze=False)
    for column, ((curve, _), points) in zip(grid.T, panels.items(), strict=True):
        for axes, what in zip(column, ("median ms", "peak memory (MB)"), strict=True):
            for program, (x, y) in _lines(points, what).items():
                axes.plot(x, y, "o-", color=COLOURS[program], label=program, ms=4)
            axes.set(xlabel=_AXES[curve], ylabel=what, yscale="log")
            if curve == "threads":
                axes.set_xticks([point["value"] for point in points])
            else:
                axes.set_xscale("log")
        column[0].set_title(points[0]["title"], fontsize=9)
    grid[0, 0].legend()
    figure.suptitle(_title(results))
    return _saved(figure, file.with_suffix(".png"))


def training(curves: Curves, validation: Curves, out: Path) -> Path:
    """The query loss of each training over its iterations, (iterations, means) by name, and the error on validation
    characters of those that have one, (iterations, accuracies). Returns the picture's path."""
    plt = _matplotlib()
    figure, grid = plt.subplots(1, 2 if validation else 1, figsize=(9, 5), layout="constrained", squeeze=False)
    colours = {name: plt.get_cmap("tab20")(i % 20) for i, name in enumerate(curves | validation)}
    errors = {name: [at, [100 - 100 * accuracy for accuracy in scores]] for name, (at, scores) in validation.items()}
    for axes, lines, what in zip(grid[0], (curves, errors), ("mean query loss", "validation error, %"), strict=False):
        for name, (at, values) in lines.items():
            axes.plot(at, values, label=name, color=colours[name], linestyle="--" if "20w" in name else "-")
        axes.set(xlabel="iteration", ylabel=what, xscale="log", yscale="log")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return _saved(figure, out)


def learning_curve(log: Path) -> list[list[float]]:
    """(iterations, means) of a log.jsonl: the query loss, each the mean of a hundredth of the iterations."""
    loss = np.array([json.loads(line)["loss"] for line in log.read_text("utf-8").splitlines()])
    width = max(len(loss) // 100, 1)
    means = loss[: len(loss) // width * width].reshape(-1, width).mean(axis=1)
    return [[width * (i + 1) for i in range(len(means))], [round(float(mean), 4) for mean in means]]


def validation_curve(log: Path) -> list[list[float]]:
    """(iterations, scores) of a log.jsonl: those on validation tasks."""
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines() if '"validation"' in line]
    return [[line["iteration"] for line in lines], [line["validation"] for line in lines]]


def _lines(points: list[dict[str, Any]], what: str) -> dict[str, tuple[list[int], list[float]]]:
    lines: dict[str, tuple[list[int], list[float]]] = {}
    for point in points:
        for entry in best_entries(point):
            if entry["status"] == "timed":
                x, y = lines.setdefault(entry["program"], ([], []))
                x.append(point["value"])
                y.append(entry["median_ms"][point["parts"][0]] if what == "median ms" else _memory(entry))
    return lines


def _memory(entry: dict[str, Any]) -> float:
    return float(entry["device_mb"] or entry["peak_rss_mb"])


def _title(results: dict[str, Any]) -> str:
    about = results["machine"]
    where = about.get("gpu") or f"{about['processor']}, {results['threads']} threads"
    return f"{where}; {results['date']}, {about['commit']}"


def _matplotlib() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _saved(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=110)
    _matplotlib().close(figure)  # a run of many rows draws after each
    return path


if __name__ == "__main__":
    for name in map(Path, sys.argv[1:]):
        print((curves if "points" in json.loads(name.read_text("utf-8")) else roofline)(name))
