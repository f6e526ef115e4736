"""`fastmeta compare`: runs side by side on the same episodes, with paired differences, as a table and a picture."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

import fastmeta as fm
from fastmeta.cli.options import Whole
from fastmeta.cli.run_folder import RunFolder
from fastmeta.cli.speech import say

Row = dict[str, Any]


class Entry(NamedTuple):
    """One run's score in a comparison."""

    name: str
    settings: Row
    row: Row
    score: fm.Score


@click.command(short_help="Compare runs on the same episodes.")
@click.argument("runs", nargs=-1, required=True, type=click.Path(), metavar="RUN RUN ...")
@click.option("--shots", type=Whole(), help="Shots to compare at.  [default: the first that all have]")
@click.option("--evaluation-steps", type=Whole(0), help="Inner steps to compare after.  [default: the most]")
@click.option("--picture", type=click.Path(dir_okay=False), default="comparison.png", show_default=True, help="A PNG.")
def compare(runs: Sequence[str], shots: int | None, evaluation_steps: int | None, picture: str) -> None:
    """Compare the scores of runs with those of the first RUN, episode by episode.

    RUN is a run's folder, which means its score.json, or another file that `fastmeta evaluate --save` wrote.
    Scores of different episodes are refused. Intervals are over tasks; seeds of one setting are listed apart.
    """
    if len(runs) < 2:
        raise ValueError(f"runs={list(runs)} must be at least two. Name the runs to compare.")
    tables = [(name, *_table(Path(name))) for name in runs]
    shared = [s for s in dict.fromkeys(row["shots"] for row in tables[0][2]) if all(_has(t[2], s) for t in tables)]
    if shots is None and not shared:
        raise ValueError("runs must share a number of shots. Evaluate them with the same --shots.")
    at = shared[0] if shots is None else shots
    entries = [_entry(name, settings, rows, at, evaluation_steps) for name, settings, rows in tables]
    first = entries[0]
    differences = [None] + [_difference(entry, first) for entry in entries[1:]]
    _print(entries, differences)
    _print_seeds(entries)
    try:
        from fastmeta import plots

        labels = [f"{entry.name}\n{entry.row['algorithm']}" for entry in entries]
        plots.comparison(picture, labels, [entry.score for entry in entries], [d for d in differences if d is not None])
        say(f"Picture: {picture}")
    except ModuleNotFoundError as error:
        say(f"No picture. {error}", err=True)


def _table(path: Path) -> tuple[Row, list[Row]]:
    """A run's settings and the rows of its scores."""
    folder, name = (path.parent, path.stem) if path.suffix == ".json" else (path, "score")
    run = RunFolder(folder)
    return run.config(), run.scores(name)


def _has(rows: list[Row], shots: int) -> bool:
    return any(row["shots"] == shots for row in rows)


def _entry(name: str, settings: Row, rows: list[Row], shots: int, steps: int | None) -> Entry:
    rows = [row for row in rows if row["shots"] == shots and (steps is None or row["inner_steps"] in (steps, None))]
    if not rows:
        after = "" if steps is None else f" after {steps} inner steps"
        raise ValueError(f'run="{name}" must have a score at {shots} shots{after}. Evaluate it so, with --save.')
    row = max(rows, key=lambda row: row["inner_steps"] or 0)
    if not row.get("stream") or not row.get("values"):
        raise ValueError(
            f'run="{name}" must have scores with their episode stream, which older versions did not keep. Run '
            f"`{shlex.join(['fastmeta', 'evaluate', name, '--save', 'score'])}`."
        )
    worst = math.inf if row["measure"] == "mse" else math.nan
    values = np.array([worst if value is None else value for value in row["values"]])
    return Entry(name, settings, row, fm.Score(values, row["measure"], row["batch_norm"], row["stream"]))


def _difference(entry: Entry, first: Entry) -> fm.Difference:
    try:
        return fm.compare(entry.score, first.score)
    except ValueError as error:
        raise ValueError(f"{entry.name} cannot be compared with {first.name}: {error}") from error


def _print(entries: list[Entry], differences: list[fm.Difference | None]) -> None:
    row, score = entries[0].row, entries[0].score
    ways = f"{row['ways']}-way " if row.get("ways") else ""
    measure = {"accuracy": "accuracy", "auc": "ROC-AUC", "mse": "mean squared error", "return": "return"}[score.measure]
    say(
        f"{measure}, {ways}{row['shots']}-shot, {row['part']} tasks: {len(score.values):,} episodes of stream "
        f"{score.stream}, the same for all. ± is half a 95 % interval over tasks."
    )
    head = ("run", "algorithm", "trained with", "seed", "inner steps", "batch norm", "score", "less the first, paired")
    lines = [head]
    for entry, difference in zip(entries, differences, strict=True):
        chosen, found = entry.settings, entry.row
        trained = f"{chosen['ways']}-way {chosen['shots']}-shot" if "ways" in chosen else f"{chosen['shots']} shots"
        steps = "-" if found["inner_steps"] is None else str(found["inner_steps"])
        cells = (entry.name, found["algorithm"], trained, str(chosen["seed"]), steps, found["batch_norm"] or "-")
        lines.append((*cells, str(entry.score), "" if difference is None else str(difference)))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if len({entry.row["batch_norm"] for entry in entries}) > 1:
        say(
            "Batch norm differs: transductive scores use the statistics of the whole query set, which is worth some "
            "points by itself."
        )


def _print_seeds(entries: list[Entry]) -> None:
    """For runs that differ in the seed alone: the spread of their means, which is not an interval over tasks."""
    groups: dict[str, dict[int, float]] = {}
    for entry in entries:
        same = {k: v for k, v in entry.settings.items() if k not in ("seed", "data", "fastmeta", "device")}
        row = entry.row
        key = json.dumps([row["algorithm"], row["inner_steps"], row["batch_norm"], same], sort_keys=True)
        groups.setdefault(key, {})[entry.settings["seed"]] = entry.score.mean
    scale, unit = (1, "") if entries[0].score.measure == "mse" else (100, " %")
    for key, means in groups.items():
        if len(means) > 1:
            name, values = json.loads(key)[0], scale * np.array(list(means.values()))
            say(
                f"over {len(means)} seeds of {name}: mean {values.mean():.2f}{unit}, from {values.min():.2f} to "
                f"{values.max():.2f}, standard deviation {values.std(ddof=1):.2f}"
            )
