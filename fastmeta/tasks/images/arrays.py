"""Labelled images in one file: .npz, HDF5 or Parquet. Pickles are refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta.tasks.images import hdf5, npz, parquet
from fastmeta.tasks.images.described import Limits, sized
from fastmeta.tasks.images.pixels import RefusedError
from fastmeta.tasks.images.splits import found_by_part

PICKLES = (".pkl", ".pickle", ".p", ".pt", ".pth")
READERS = {".npz": npz.read, ".h5": hdf5.read, ".hdf5": hdf5.read, ".parquet": parquet.read}
Labelled = tuple[NDArray[Any], NDArray[np.str_]]  # images (n, H, W, C), class names (n,)


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
        x, y = READERS[ending](path, limits)
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
