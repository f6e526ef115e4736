"""Which classes are for training, validation and test: published lists, a user's lists, csv files."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path

from fastmeta import checks
from fastmeta.tasks.parts import PARTS

PUBLISHED = {"miniimagenet": "miniimagenet.txt", "cifar-fs": "cifar_fs.txt"}
STEMS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}

Split = str | Mapping[str, Iterable[str]] | None


def published_split(name: str) -> dict[str, tuple[str, ...]]:
    """The class names of each part: 64 for training, 16 for validation, 20 for test.

    "miniimagenet": WordNet numbers, Ravi & Larochelle 2017. "cifar-fs": CIFAR-100's names, Bertinetto et al. 2019
    (arXiv 1805.08136).
    """
    from importlib import resources

    text = resources.files("fastmeta.tasks.images").joinpath(PUBLISHED[checks.choice("split", name, PUBLISHED)])
    rows = [line.split() for line in text.read_text("utf-8").splitlines()]
    return {part: tuple(name for where, name in rows if where == part) for part in PARTS}


def named_split(split: Split) -> dict[str, tuple[str, ...]] | None:
    """`split` as class names by part, None where the files decide; ValueError where parts share a class."""
    if split is None:
        return None
    if isinstance(split, str):
        return published_split(split)
    for part in split:
        checks.choice("split", part, PARTS)
    names = {part: tuple(str(name) for name in split[part]) for part in PARTS if part in split}
    check_disjoint("split", names)
    return names


def check_disjoint(where: str, classes: Mapping[str, Iterable[str]]) -> None:
    """ValueError where two parts share a class: a test on classes trained on says nothing about new ones."""
    for one, other in combinations(classes, 2):
        shared = sorted(set(classes[one]) & set(classes[other]))
        if shared:
            listed = ", ".join(shared[:5]) + (f" and {len(shared) - 5} more" if len(shared) > 5 else "")
            raise ValueError(
                f"{where} must not share classes between {one} and {other}: both have {listed}. Give every class to "
                "one part; where each file numbers its classes from 0, number them on from file to file."
            )


def csv_files(root: Path) -> dict[str, Path]:
    """The split files train.csv, val.csv (or validation.csv) and test.csv in `root`, by part."""
    return {part: root / f"{s}.csv" for part, stems in STEMS.items() for s in stems if (root / f"{s}.csv").is_file()}


def read_csv(path: Path) -> dict[str, list[str]]:
    """File names by label of a csv file whose header has the columns filename and label.

    Raises ValueError where a column is absent, a row is short, or a name leaves the folder.
    """
    files: dict[str, list[str]] = {}
    with path.open(encoding="utf-8-sig", newline="") as opened:
        reader = csv.DictReader(opened)
        if not {"filename", "label"} <= set(reader.fieldnames or ()):
            raise ValueError(
                f"{path} must begin with the columns filename,label; it has {reader.fieldnames}. Add that line."
            )
        for row in reader:
            name, label = row["filename"], row["label"]
            if not name or not label:
                raise ValueError(f"{path} must have a filename and a label in line {reader.line_num}. Repair it.")
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise ValueError(f"{path} must name files within its folder, not {name}. Repair it.")
            files.setdefault(label, []).append(name)
    return files
