"""Which classes are for training, validation and test: published lists, a user's lists, names of files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import combinations, product
from pathlib import Path

from fastmeta import checks
from fastmeta.tasks.parts import PARTS

PUBLISHED = {"miniimagenet": "miniimagenet.txt", "cifar-fs": "cifar_fs.txt"}
STEMS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}

Files = dict[str, list[Path]]  # images by class name
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
    if not isinstance(split, Mapping):
        raise TypeError(f'split={split!r} must be class names by part. Give {{"train": [names], "test": [names]}}.')
    for part in split:
        checks.choice("split", part, PARTS)
        if isinstance(split[part], str):
            raise TypeError(f'split["{part}"]="{split[part]}" must be several class names. Give a list of them.')
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


def found_by_part(root: Path, endings: Iterable[str], is_there: Callable[[Path], bool]) -> dict[str, Path]:
    """The file or folder train, val (validation, valid) and test in `root`, by part; ValueError where one has two."""
    found: dict[str, Path] = {}
    for part in PARTS:
        places = [root / f"{stem}{ending}" for stem, ending in product(STEMS[part], endings)]
        there = [place for place in places if is_there(place)]
        if len(there) > 1:
            both = " and ".join(place.name for place in there)
            raise ValueError(f"{root} must hold the {part} part once, not as {both}. Take one of them away.")
        if there:
            found[part] = there[0]
    return found
