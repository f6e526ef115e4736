"""Labelled images in one file, .npz, HDF5 or Parquet: described and measured before they are read. No pickles."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmeta.tasks.images.pixels import RefusedError, fitted, ranged, stacked
from fastmeta.tasks.images.splits import found_by_part

IMAGES = ("x", "images", "image", "image_data", "data", "img")
LABELS = ("y", "labels", "label", "fine_label", "fine_labels")
PICKLES = (".pkl", ".pickle", ".p", ".pt", ".pth")
READERS = {".npz": "npz", ".h5": "hdf5", ".hdf5": "hdf5", ".parquet": "parquet"}
LONGEST_LABEL = 1000  # characters: every label takes as much room as the longest
Labelled = tuple[NDArray[Any], NDArray[np.str_]]  # images (n, H, W, C), class names (n,)


class Limits(NamedTuple):
    """What comes out, and how much memory it may take on the way."""

    size: int  # pixels of a side
    most_bytes: int


class Described(NamedTuple):
    """An array in a file, as its header says."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def find_array_files(root: Path) -> dict[str, Path]:
    """The files of each part in the folder `root`; ValueError where there are only pickles."""
    found = found_by_part(root, READERS, Path.is_file)
    if not found and root.is_dir():
        for path in sorted(root.iterdir()):
            if path.suffix.lower() in PICKLES:
                refuse_pickle(path)
    return found


def read_arrays(path: Path, limits: Limits) -> Labelled:
    """Images (n, size, size, C), uint8 or float32 in 0 .. 1, and class names (n,) of one file.

    Raises ValueError where the file is a pickle, is damaged, lacks images or labels, holds others than pixels, or
    would take more than `most_bytes`; ModuleNotFoundError where the library that reads it is missing.
    """
    ending = path.suffix.lower()
    if ending in PICKLES:
        refuse_pickle(path)
    if ending not in READERS:
        raise ValueError(f"{path} must end with one of {', '.join(READERS)}. Convert it to one of these.")
    with whole_file(path):
        x, y = importlib.import_module(f"fastmeta.tasks.images.{READERS[ending]}").read(path, limits)
        return sized(path, x, limits.size), _names(path, y)


@contextmanager
def whole_file(path: Path) -> Iterator[None]:
    """ValueError, naming the file, for whatever a library raises where it reads one that is damaged."""
    try:
        yield
    except (RefusedError, ModuleNotFoundError):
        raise
    except Exception as error:
        raise ValueError(f"{path} must be a whole {path.suffix} file: {error}. Save it again.") from error


def check_described(path: Path, images: Iterable[Described], labels: Described | None, limits: Limits) -> None:
    """Raise where arrays are no images and labels, or reading and preparing them would take too much memory."""
    total = 0
    for shape, dtype in images:
        height, width, channels = (*shape, 1)[1:4] if len(shape) == 3 else (*shape, 0, 0, 0, 0)[1:4]
        if len(shape) not in (3, 4) or min(height, width) < 1 or channels not in (1, 3):
            raise RefusedError(
                f"{path} must hold images (n, height, width, 1 or 3), not {shape} of {dtype}. Move the channels to the "
                "last axis, for example x.transpose(0, 2, 3, 1), and save it again."
            )
        if dtype.kind not in "fb" and dtype.newbyteorder("=") not in (np.uint8, np.uint16):
            raise RefusedError(
                f"{path} must hold images of uint8, uint16 or floats, not of {dtype}. Save pixels of 0 .. 255 as "
                "x.astype('uint8'), others as floats of 0 .. 1."
            )
        prepared = shape[0] * limits.size**2 * channels * (4 if dtype != np.uint8 else 1)
        as_it_is = (height, width) == (limits.size, limits.size) and dtype in (np.uint8, np.float32)
        total += prod(shape) * dtype.itemsize + (0 if as_it_is else prepared)
    total += prod(labels.shape) * labels.dtype.itemsize if labels is not None else 0
    check_size(path, total, limits.most_bytes)
    if labels is not None:
        count = next(iter(images)).shape[:1]
        if labels.shape != count:
            raise RefusedError(f"{path} must hold one label an image: {count}, not {labels.shape}. Save it again.")
        if labels.dtype.kind not in "iuSUO" or labels.dtype.itemsize > 4 * LONGEST_LABEL:
            raise RefusedError(
                f"{path} must hold labels that are whole numbers or names, not of dtype {labels.dtype}. Save them as "
                "y.astype(int), or as names of at most 1,000 characters."
            )


def check_size(path: Path, size: int, most_bytes: int) -> None:
    """Raise where `size` bytes are too many."""
    if size > most_bytes:
        raise RefusedError(
            f"{path} must take at most {most_bytes / 2**30:.3g} GiB in memory; it would take {size / 2**30:.3g}. "
            "Raise largest_gib where that is right, or unpack it into folders of images, which are read as they go."
        )


def one_of(path: Path, names: Iterable[str], wanted: Iterable[str]) -> str:
    """The first of the `wanted` names that a file has."""
    there = list(names)
    for name in wanted:
        if name in there:
            return name
    raise RefusedError(f"{path} must hold {' or '.join(wanted)}; it has {', '.join(there[:20])}. Rename it so.")


def sized(path: Path, x: NDArray[Any], size: int) -> NDArray[Any]:
    """Images of any pixels and size as (n, size, size, C), uint8 or float32 in 0 .. 1."""
    try:
        x = ranged(x)
    except ValueError as error:
        raise RefusedError(f"{path} must hold images, but {error}.") from error
    x = x[..., None] if x.ndim == 3 else x
    shape = (size, size, x.shape[-1])
    return x if x.shape[1:] == shape else stacked((fitted(image, shape) for image in x), len(x), shape)


def library(module: str, extra: str) -> Any:
    """An imported module of an extra; ModuleNotFoundError tells how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        name = module.split(".")[0]
        raise ModuleNotFoundError(
            f'This file needs {name}, which is not installed: pip install "fastmeta[{extra}]".'
        ) from error


def refuse_pickle(path: Path) -> None:
    """A ValueError that says how to convert: reading a pickle runs whatever program is in it."""
    raise RefusedError(
        f"{path} must not be a pickle: reading one runs whatever program is in it. Where you trust it, convert it "
        "once: d = pickle.load(open(file, 'rb')); x = d['image_data'], which is uint8 (n, H, W, 3); y = an array of n "
        "class names, from d['class_dict'] = {name: [numbers of its images]}; numpy.savez('train.npz', x=x, y=y); "
        "likewise val.npz and test.npz."
    )


def _names(path: Path, labels: NDArray[Any]) -> NDArray[np.str_]:
    """Labels as names."""
    if labels.dtype.kind == "S":
        return np.char.decode(labels, "utf-8")
    if labels.dtype.kind not in "iuU":
        raise RefusedError(f"{path} must hold labels that are whole numbers or names, not {labels.dtype}. Save those.")
    return labels.astype(str)
