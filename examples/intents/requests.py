"""CLINC150 and BANKING77: requests, what they ask for, and the published splits of intents."""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import fastmeta as fm

Rows = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Requests:
    """Features x of requests, their intents y (numbers), features of the intents' names, requests of no intent."""

    x: Rows
    y: NDArray[np.int64]
    names: Rows
    outside: Rows

    def tasks(self, intents: NDArray[np.int64], **sizes: int) -> fm.tasks.LabelledTasks:
        """Tasks of these intents, in ascending order, described by their names."""
        rows = np.isin(self.y, intents)
        return fm.tasks.from_arrays(self.x[rows], self.y[rows], attributes=self.names[intents], **sizes)


def read(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Texts, the intent of each, and texts that ask for nothing known."""
    if (folder / "data_full.json.gz").exists():
        with gzip.open(folder / "data_full.json.gz") as file:
            data = json.load(file)
        pairs = [pair for part in ("train", "val", "test") for pair in data[part]]
        return [text for text, _ in pairs], [name for _, name in pairs], [text for text, _ in data["oos_test"]]
    pairs = []
    for part in ("train", "test"):
        with open(folder / f"{part}.csv", encoding="utf-8", newline="") as file:
            pairs += [(row["text"], row["category"]) for row in csv.DictReader(file)]
    return [text for text, _ in pairs], [name for _, name in pairs], []


def split(folder: Path, fold: int, intents: list[str]) -> dict[str, NDArray[np.int64]]:
    """Numbers of the "train", "valid" and "test" intents of a published split, 1 to 5."""
    parts = {}
    for part in ("train", "valid", "test"):
        lines = (folder / "few_shot_splits" / f"fold{fold}.{part}.txt").read_text("utf-8").split()
        parts[part] = np.sort([intents.index(line) for line in lines])
    return parts


def weighed(given: Requests, train: NDArray[np.int64]) -> Requests:
    """Features times the inverse document frequency among the training intents' requests, of length 1."""
    known = given.x[np.isin(given.y, train)]
    rarity = np.log((1 + len(known)) / (1 + (known != 0).sum(axis=0))).astype(np.float32)
    return _each(given, lambda rows: rows * rarity)


def reduced(given: Requests, train: NDArray[np.int64], width: int) -> Requests:
    """The `width` leading singular directions of the training intents' requests (latent semantic analysis)."""
    known = given.x[np.isin(given.y, train)]
    directions = np.linalg.eigh(known.T @ known)[1][:, -width:]
    return _each(given, lambda rows: rows @ directions)


def _each(given: Requests, change) -> Requests:  # type: ignore[no-untyped-def]
    changed = []
    for rows in (given.x, given.names, given.outside):
        rows = change(rows)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        changed.append(rows / np.where(lengths == 0, 1, lengths))
    return Requests(changed[0], given.y, changed[1], changed[2])
