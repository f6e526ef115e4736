"""What a file says of its labelled images before they are read: whether they are pixels, and how much they take."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmeta.tasks.images.pixels import RefusedError, fitted, ranged, stacked

IMAGES = ("x", "images", "image", "image_data", "data", "img")
LABELS = ("y", "labels", "label", "fine_label", "fine_labels")
LONGEST_LABEL = 1000  # characters: every label takes as much room as the longest


class Limits(NamedTuple):
    """What comes out, and how much memory it may take on the way."""

    size: int  # pixels of a side
    most_bytes: int


class Described(NamedTuple):
    """An array in a file, as its header says."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


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
