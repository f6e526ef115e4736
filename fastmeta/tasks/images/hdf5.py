"""Images and labels in HDF5: arrays that lie in the file itself, without links to others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta.tasks.images.described import (
    IMAGES,
    LABELS,
    Described,
    Limits,
    check_described,
    check_size,
    library,
    one_of,
    sized,
)
from fastmeta.tasks.images.hdf5_names import read_names
from fastmeta.tasks.images.pixels import RefusedError, joined

CLASSES = "datasets"  # the group with one array a class


def read(path: Path, limits: Limits) -> tuple[NDArray[Any], NDArray[Any]]:
    """Images (n, H, W) or (n, H, W, C) and labels (n,), of the arrays x and y or of one array a class."""
    h5py = library("h5py", "hdf5")
    with h5py.File(path, "r") as file:
        if CLASSES in list(file):
            group = _own(h5py, path, file, CLASSES, h5py.Group)
            names = sorted(group)
            arrays = [_own(h5py, path, group, name, h5py.Dataset) for name in names]
            if len(set(arrays)) < len(arrays):
                raise RefusedError(f"{path} must hold other images in each class, not one array as two. Take one away.")
            described = [_described(array) for array in arrays]
            check_described(path, described, None, limits)
            _check_chunks(path, arrays, limits)
            parts = [sized(path, array[()], limits.size) for array in arrays]
            if len({part.shape[1:] for part in parts}) > 1:
                raise RefusedError(f"{path} must hold images of as many channels in each class. Save it again.")
            return joined(parts), np.repeat(np.array(names), [len(part) for part in parts])
        members = [_own(h5py, path, file, one_of(path, file, wanted), h5py.Dataset) for wanted in (IMAGES, LABELS)]
        images, labels = map(_described, members)
        check_described(path, [images], labels, limits)
        _check_chunks(path, members, limits)
        return members[0][()], _labels(h5py, path, members[1])


def _own(h5py: Any, path: Path, group: Any, name: str, kind: type) -> Any:
    """A member of the file itself: what a link or external storage names could be any file, a pipe, or the link."""
    is_own = isinstance(group.get(name, getlink=True), h5py.HardLink)
    found = group[name] if is_own else None
    if is_own and kind is h5py.Dataset and isinstance(found, kind):
        is_own = not (found.external or found.is_virtual)
    if not is_own:
        raise RefusedError(
            f"{path} must hold {name} itself, not a link or data of another file. Copy it into the file."
        )
    if not isinstance(found, kind):
        raise RefusedError(f"{path} must hold {name} as a {kind.__name__.lower()}. Save it again.")
    return found


def _described(array: Any) -> Described:
    return Described(array.shape, array.dtype)


def _check_chunks(path: Path, arrays: list[Any], limits: Limits) -> None:
    """A chunk is expanded as a whole, however little of it is an array's."""
    for array in arrays:
        check_size(path, int(np.prod(array.chunks or (0,), dtype=object)) * array.dtype.itemsize, limits.most_bytes)


def _labels(h5py: Any, path: Path, array: Any) -> NDArray[Any]:
    if array.dtype.kind != "O":
        return np.asarray(array[()])
    if not h5py.check_string_dtype(array.dtype):
        raise RefusedError(f"{path} must hold labels that are whole numbers or names, not {array.dtype}. Save those.")
    return np.array(read_names(path, array))
