"""Images that csv files list: train.csv, val.csv and test.csv with the columns filename,label."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path, PurePath

from fastmeta.tasks.images.leftovers import is_leftover
from fastmeta.tasks.images.pixels import regular
from fastmeta.tasks.images.splits import STEMS, Files

COLUMNS = ("filename", "label")
Names = dict[str, list[str]]  # by class name


def listed(root: Path, tables: Mapping[str, Path]) -> dict[str, Files]:
    """The images that the csv file of each part lists, by class.

    A name is a place below `root` or its folder images or data, or below the folder there of the part or the class.
    A name that lies at none of these places may lie elsewhere, but in no folder of another class or part.
    Raises FileNotFoundError where an image is missing; ValueError where several files fit a name, and as `read_table`.
    """
    rows = {part: read_table(table) for part, table in tables.items()}
    labels = {label for names in rows.values() for label in names}
    index: dict[str, list[PurePath]] = {}
    found: dict[str, Files] = {}
    for part, names in rows.items():
        found[part] = {}
        for label in sorted(names):
            near = list(_folders(root, part, label))
            others = (labels | {stem for stems in STEMS.values() for stem in stems}) - {label, *STEMS[part]}
            for name in names[label]:
                fits = _at(root, near, name)
                if not fits and not index:
                    index.update(_index(root))
                fits = fits or [root / place for place in _elsewhere(index, name, part, label, others)]
                found[part].setdefault(label, []).append(_one(fits, root, tables[part], name, label))
    return found


def read_table(path: Path) -> Names:
    """File names by label of a csv file whose header has the columns filename and label.

    Hidden files, and what notebooks and archives leave behind, are skipped. Raises ValueError, naming the file, where
    it is not such a table in UTF-8, lists nothing, or a name leaves the folder.
    """
    try:
        with regular(path) as file:
            text = file.read().decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise ValueError(f'{path} must be text in UTF-8: {error}. Save it as "CSV UTF-8".') from error
    reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    files: Names = {}
    try:
        if any(list(reader.fieldnames or ()).count(column) != 1 for column in COLUMNS):
            raise ValueError(
                f"{path} must begin with the columns filename,label; it has "
                f"{_short(str(reader.fieldnames))}. Add that line, with commas."
            )
        for row in reader:
            name, label = row["filename"], (row["label"] or "").strip()
            if not name or not label or None in row:
                raise ValueError(
                    f"{path} must have a filename and a label in line {reader.line_num}, "
                    "and no cell without a column. Repair it, or quote names that hold commas."
                )
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise ValueError(f"{path} must name files within its folder, not {_short(name)}. Repair it.")
            if not any(map(is_leftover, Path(name).parts)):
                files.setdefault(label, []).append(name)
    except csv.Error as error:
        raise ValueError(f"{path} must be a csv file; line {reader.line_num}: {error}. Repair it.") from error
    if not files:
        raise ValueError(f"{path} must list at least one image below its header. Add them, or take the file away.")
    return files


def _folders(root: Path, part: str, label: str) -> Iterator[Path]:
    own = ("", label) if PurePath(label).name == label != ".." else ("",)  # a label may be no folder's name
    for place in product(("", "images", "data"), ("", *STEMS[part]), own):
        if os.path.isdir(folder := root.joinpath(*place)):
            yield folder


def _at(root: Path, near: list[Path], name: str) -> list[Path]:
    """Files at the places that are meant first: with its folder written out, exactly that place."""
    exact = [root] if len(PurePath(name).parts) > 1 and os.path.isfile(root / name) else near
    return [folder / name for folder in exact if os.path.isfile(folder / name)]


def _index(root: Path) -> dict[str, list[PurePath]]:
    """Places, seen from `root`, of all files by their last name."""
    found: dict[str, list[PurePath]] = {}
    for place, folders, names in os.walk(root):
        folders[:] = [folder for folder in folders if not is_leftover(folder)]
        for name in names:
            if not is_leftover(name):
                found.setdefault(name, []).append(PurePath(place, name).relative_to(root))
    return found


def _elsewhere(
    index: Mapping[str, list[PurePath]], name: str, part: str, label: str, others: set[str]
) -> list[PurePath]:
    """Places that end as the name does; those in folders of the part and of the class first."""
    parts = PurePath(name).parts
    fits = [place for place in index.get(parts[-1], ()) if place.parts[-len(parts) :] == parts]
    above = {place: set(place.parts[: -len(parts)]) for place in fits}
    fits = [place for place in fits if not above[place] & others]
    for wanted in (set(STEMS[part]), {label}):
        fits = [place for place in fits if above[place] & wanted] or fits
    return fits


def _one(fits: list[Path], root: Path, table: Path, name: str, label: str) -> Path:
    if not fits:
        raise FileNotFoundError(
            f"{table} names {_short(name)}, which must lie below {root}, in no folder of another class or part than "
            f"{_short(label)}'s. Add the image, drop it, or write its folder before its name."
        )
    others = [path for path in fits[1:] if not path.samefile(fits[0])]
    if others:
        raise ValueError(
            f"{table} names {_short(name)}, of class {_short(label)}, which must fit one file, not {fits[0]} and "
            f"{others[0]}. Write the folder before the name."
        )
    return fits[0]


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
