"""Few-shot classification of images in folders or files, as miniImageNet, CIFAR-FS and tieredImageNet come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta import checks
from fastmeta.tasks.images.arrays import find_array_files, read_arrays
from fastmeta.tasks.images.decoded import decoded
from fastmeta.tasks.images.described import Limits
from fastmeta.tasks.images.folders import find_files
from fastmeta.tasks.images.pictures import Pictures
from fastmeta.tasks.images.pixels import joined
from fastmeta.tasks.images.splits import Split, check_disjoint, named_split
from fastmeta.tasks.labelled import LabelledTasks
from fastmeta.tasks.parts import PARTS, Parts
from fastmeta.tasks.sizes import SMALL, Size, checked_size

Arrays = dict[str, tuple[NDArray[Any], NDArray[Any]]]  # images (n, size, size, C) and class numbers (n,) by part
Classes = dict[str, tuple[str, ...]]


class Images(Parts):
    """N-way K-shot tasks over labelled images: `train`, `validation` and `test` with classes of their own.

    root: a folder in one of these layouts, or one file with everything (which needs a split):
    - train/CLASS/*.jpg, val/CLASS/*.jpg, test/CLASS/*.jpg (tieredImageNet, most copies of the others);
    - CLASS/*.jpg, or all of them below images/ or data/, with a split by class name (CIFAR-FS as published);
    - train.csv, val.csv, test.csv with the columns filename,label beside images/ (miniImageNet as published);
    - train.npz, val.npz, test.npz, or .h5, .hdf5 or .parquet, with images x (n, H, W, C) and labels y (n,).
    split: "miniimagenet" (Ravi & Larochelle 2017) or "cifar-fs" (Bertinetto et al. 2019), the published class
    names; or your own {"train": [...], "validation": [...], "test": [...]}; None: as the files say.

    Images come out as (image_size, image_size, C) in 0 .. 1, as `read_images` gives single pictures: PNG, JPEG, BMP,
    GIF, WebP, TIFF and PPM files, in arrays uint8, uint16 or floats of 0 .. 1. Hidden files and folders, and what
    notebooks and archives leave behind, are skipped; an image listed or linked twice in its class is there once.
    Decoded folders are cached in the user's cache folder (or FASTMETA_CACHE) and read as they go. `classes` maps each
    part to its class names. A file that would take more than `largest_gib` in memory is refused before it is expanded.
    shots, queries and small_classes as in `from_arrays`; a part's `left_out` names the classes that were too small.

    Raises ValueError or TypeError for bad sizes, splits that share classes, classes without images, images in two
    classes, names in csv files that fit several images, pickles and damaged files;
    FileNotFoundError where images are missing; ModuleNotFoundError where Pillow, h5py or pyarrow is.
    """

    def __init__(
        self,
        root: str | Path,
        ways: int = 5,
        shots: Size = 1,
        queries: Size = 15,
        image_size: int = 84,
        split: Split = None,
        largest_gib: float = 16.0,
        small_classes: str = "refuse",
    ) -> None:
        self.root = Path(root)
        self.ways = checks.integer("ways", ways, 2)
        self.shots = checked_size("shots", shots)
        self.queries = checked_size("queries", queries)
        self.small_classes = checks.choice("small_classes", small_classes, SMALL)
        self.image_size = checks.integer("image_size", image_size, 1)
        limits = Limits(self.image_size, int(checks.positive("largest_gib", largest_gib) * 2**30))
        names = named_split(split)
        if not (self.root.is_dir() or self.root.is_file()):
            what = "be a folder or a file" if self.root.exists() else "exist"
            raise FileNotFoundError(f'root="{root}" must {what}. Give the folder or file that holds the images.')
        self._arrays, self.classes = _load(self.root, names, limits)
        check_disjoint(f'root="{root}"', self.classes)

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(names)} {part}" for part, names in self.classes.items())
        sizes = f"ways={self.ways}, shots={self.shots}, queries={self.queries}, image_size={self.image_size}"
        return f'Images("{self.root}", {sizes}; classes: {counts})'

    def _tasks(self, part: str) -> LabelledTasks:
        if part not in self._arrays:
            raise ValueError(f'root="{self.root}" has no {part} part, only {", ".join(self._arrays)}. Add it.')
        x, y = self._arrays[part]
        names = self.classes[part]
        sizes = self.ways, self.shots, self.queries
        preparation = Pictures(x.shape[1:])
        return LabelledTasks(x, y, *sizes, names=names, small_classes=self.small_classes, preparation=preparation)


def _load(root: Path, names: Classes | None, limits: Limits) -> tuple[Arrays, Classes]:
    """Images (n, size, size, C) and class numbers (n,) by part, and class names by part."""
    files = {"": root} if root.is_file() else find_array_files(root)
    if not files:
        found = find_files(root, names)
        classes = {part: tuple(members) for part, members in found.items()}
        check_disjoint(f'root="{root}"', classes)
        return decoded(found, limits.size), classes
    if root.is_file() and names is None:
        raise ValueError(f'split=None must be a split by class name where root is one file, as "{root}" is. Give one.')
    labelled = {part: read_arrays(path, limits) for part, path in files.items()}
    if len({x.shape[1:] for x, _ in labelled.values()}) > 1:
        raise ValueError(f'root="{root}" must hold images that are all grey or all of colour. Save the parts alike.')
    if names is not None:
        x = joined([x for x, _ in labelled.values()])
        y = np.concatenate([y for _, y in labelled.values()])
        absent = sorted({name for chosen in names.values() for name in chosen} - set(y.tolist()))
        if absent:
            raise ValueError(f'root="{root}" must hold images of each class of split; not {", ".join(absent[:5])}.')
        labelled = {part: _of(x, y, chosen) for part, chosen in names.items()}
    arrays: Arrays = {}
    found_classes: Classes = {}
    for part in (part for part in PARTS if part in labelled):
        x, y = labelled[part]
        distinct, numbers = np.unique(y, return_inverse=True)
        arrays[part], found_classes[part] = (x, numbers), tuple(distinct.tolist())
    return arrays, found_classes


def _of(x: NDArray[Any], y: NDArray[Any], names: tuple[str, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    chosen = np.isin(y, names)
    return x[chosen], y[chosen]
