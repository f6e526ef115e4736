"""results/omniglot.json: a line for each row and seed; the picture of their trainings; files of what was learned."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

import fastmeta as fm
from benchmarks.omniglot.rows import ROWS
from benchmarks.omniglot.runs import Entry, Place, found
from benchmarks.plots import Curves, training

LARGEST = 20 << 20  # bytes of all kept checkpoints together


def saved(path: Path) -> dict[tuple[str, int], Entry]:
    """The entries of a file by row and seed; none where there is no file."""
    entries: list[Entry] = json.loads(path.read_text("utf-8")) if path.exists() else []
    return {(entry["row"], entry["seed"]): entry for entry in entries}


def gathered(path: Path, place: Place) -> list[Entry]:
    """Those of the file, and in their place those of runs that are there and scored, in the order of the rows.

    Rows that are no longer trained are kept, behind the others.
    """
    known = saved(path)
    seeds = {int(folder.name.rpartition("-seed")[2]) for folder in place.runs.glob("*-seed[0-9]*")}
    for seed in seeds:
        known |= {(name, seed): entry for name, row in ROWS.items() if (entry := found(row, seed, place))}
    order = {name: i for i, name in enumerate(ROWS)}
    return sorted(known.values(), key=lambda entry: (order.get(entry["row"], len(order)), entry["row"], entry["seed"]))


def keep(entries: Iterable[Entry], path: Path) -> None:
    """Write them, one a line."""
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def draw(entries: Iterable[Entry], path: Path) -> None:
    """The query loss of each row's training and its error on validation characters, of its lowest seed."""
    curves: dict[str, Curves] = {"curve": {}, "validation_curve": {}}
    for entry in entries:
        for kind in curves.keys() & entry.keys():
            curves[kind].setdefault(entry["row"], entry[kind])
    if curves["curve"]:
        training(curves["curve"], curves["validation_curve"], path)


def keep_checkpoints(place: Place, folder: Path) -> list[Path]:
    """Files of theta alone, float32, one for each finished training; the ones that were written.

    Raises ValueError, with nothing written, where all that would lie in the folder are more than 20 MiB.
    """
    files: dict[Path, bytes] = {path: path.read_bytes() for path in folder.glob("*.safetensors")}
    new: list[Path] = []
    for run in sorted(place.runs.glob("*-seed[0-9]*")):
        if (run / "score.json").exists() and (path := folder / f"{run.name}.safetensors") not in files:
            learner: Any = fm.load(run / "checkpoint.safetensors", device="numpy")
            described = {"algorithm": type(learner).__name__, "network": json.dumps(learner.net.to_dict())}
            files[path] = save({"theta": learner.theta.astype(np.float32)}, described)
            new.append(path)
    if (size := sum(map(len, files.values()))) > LARGEST:
        raise ValueError(f"The checkpoints must be at most {LARGEST >> 20} MiB, not {size >> 20}. Remove runs.")
    folder.mkdir(parents=True, exist_ok=True)
    for path in new:
        path.write_bytes(files[path])
    return new
