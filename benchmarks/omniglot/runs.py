"""Runs of rows: a folder for each training and seed, trained and scored by the command line of fastmeta."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.omniglot.rows import SUPPORT_EPISODES, Row
from benchmarks.plots import learning_curve, validation_curve
from fastmeta.cli import main as fastmeta
from fastmeta.cli.algorithms import ALGORITHMS
from fastmeta.cli.run_folder import RunFolder
from fastmeta.learning import checkpoint

Entry = dict[str, Any]
DEFAULT = ""  # the batch-norm mode that a learner predicts with unless told
VALIDATION = "validation"  # in the place of a mode: that one, on validation characters


class Place(NamedTuple):
    """Where runs lie, and how they are computed."""

    runs: Path
    data: str = "data"
    episodes: int = 1000
    device: str = "cpu"
    threads: int | None = None

    def folder(self, row: Row, seed: int) -> Path:
        """That of a row's training."""
        return self.runs / f"{row.training}-seed{seed}"

    def computed(self) -> list[str]:
        """Options of both commands."""
        threads = [] if self.threads is None else ["--threads", str(self.threads)]
        return ["--data", self.data, "--device", self.device, *threads]


def run(row: Row, seed: int, place: Place) -> None:
    """Train a row with a seed and score it, or go on with what was stopped; nothing where that is done.

    Raises click.ClickException where the training diverges or is refused, SystemExit where it was stopped.
    """
    folder = place.folder(row, seed)
    _train(folder, [*row.options(), "--seed", str(seed), "--episodes", str(place.episodes)], place)
    for _, name, options in _scorings(row, place):
        _evaluate(folder, name, [*row.sizes, *options], place)


def trial(row: Row, change: str, seed: int, folder: Path, place: Place) -> Entry:
    """Train a row in a folder with its recipe changed, or go on with that; its score on validation characters."""
    once = ["--seed", str(seed), "--episodes", "1"]  # the least of the test characters: nobody reads it
    _train(folder, [*row.options(change), *once], place)
    _, name, options = next(scoring for scoring in _scorings(row, place) if scoring[0] == VALIDATION)
    _evaluate(folder, name, [*row.sizes, *options], place)
    score: Entry = json.loads((folder / f"{name}.json").read_text("utf-8"))["scores"][-1]
    return score


def found(row: Row, seed: int, place: Place) -> Entry | None:
    """What a row has reached with a seed; None where it is not all scored."""
    folder = place.folder(row, seed)
    files = {mode: folder / f"{name}.json" for mode, name, _ in _scorings(row, place)}
    if not all(file.exists() for file in files.values()):
        return None
    contents = {mode: json.loads(file.read_text("utf-8")) for mode, file in files.items()}
    scores = {mode: _score(content["scores"][-1]) for mode, content in contents.items()}
    config = RunFolder(folder).config()
    entry: Entry = {"row": row.name, "seed": seed, "algorithm": row.algorithm, "network": row.network, "size": row.size}
    without = f" without {row.without.replace('-', ' ')}" if row.without else ""
    entry["learner"] = contents[DEFAULT]["scores"][-1]["algorithm"] + without
    entry["config"] = {name: value for name, value in config.items() if name != "data"}
    entry |= {"seconds": seconds(folder), "validation": scores.pop(VALIDATION)}
    entry["scores"] = {score["batch_norm"]: score for score in scores.values()}
    for score in (entry["validation"], *entry["scores"].values()):
        if score is not scores[DEFAULT]:
            del score["values"]
    if row.trains:
        entry["curve"] = learning_curve(folder / "log.jsonl")
        if "validate_every" in config:
            entry["validation_curve"] = validation_curve(folder / "log.jsonl")
    return entry


def _scorings(row: Row, place: Place) -> Iterator[tuple[str, str, list[str]]]:
    """(batch-norm mode or "validation", name of the file, options) of each evaluation that a row has."""
    head, many = row.evaluation, ["--episodes", str(place.episodes)]
    label = "_".join(filter(None, (row.size, row.head)))
    yield DEFAULT, "score" if row.trains else f"test_{label}", head + many
    yield VALIDATION, f"validation_{label}", [*head, *many, "--part", "validation"]
    for mode in ALGORITHMS[row.algorithm].batch_norm_modes:
        if mode not in ("transductive", "running"):  # the default; statistics that no row keeps
            few = ["--episodes", str(min(place.episodes, SUPPORT_EPISODES))]
            yield mode, f"{mode}_{label}", [*head, *(few if mode == "support" else many), "--batch-norm", mode]


def _score(row: dict[str, Any]) -> Entry:
    """What is kept of a line of score.json: each episode's value to four digits."""
    kept = {name: row[name] for name in ("mean", "ci95", "diverged", "batch_norm", "inner_steps", "stream", "measure")}
    values = [None if value is None else round(value, 4) for value in row["values"]]
    return kept | {"episodes": len(values), "values": values}


def seconds(folder: Path) -> float:
    """Iterations times the median of their wall times, which does not count what a stopped process slept."""
    seconds = checkpoint.read(folder / "checkpoint.safetensors").history["seconds"]
    return round(float(np.median(seconds)) * len(seconds), 1)


def _train(folder: Path, anew: list[str], place: Place) -> None:
    """Train with these options, or go on with what was stopped; nothing where that is done."""
    if not (folder / "score.json").exists():
        asked = ["--resume"] if (folder / "config.json").exists() else anew
        _command("train", "omniglot", "--out", str(folder), *asked, *place.computed())


def _evaluate(folder: Path, name: str, options: list[str], place: Place) -> None:
    """Score what was trained in a file of that name; nothing where it is there."""
    if not (folder / f"{name}.json").exists():
        _command("evaluate", str(folder), "--save", name, *options, *place.computed())


def _command(*words: str) -> None:
    """A command of fastmeta in this process, so that there is one to stop and to go on with."""
    print("fastmeta", *words, flush=True)
    if code := fastmeta(list(words), standalone_mode=False):
        raise SystemExit(code)
