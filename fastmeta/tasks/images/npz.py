"""Images and labels in NumPy's .npz: each member is measured by its own header, and that very member is read."""

from __future__ import annotations

import zipfile
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
    one_of,
)
from fastmeta.tasks.images.pixels import RefusedError

LONGEST_HEADER = 10_000  # bytes; a few compressed ones can claim any number
HEADERS = {
    (1, 0): (2, np.lib.format.read_array_header_1_0),  # bytes of the header's length, its reader
    (2, 0): (4, np.lib.format.read_array_header_2_0),
}


def read(path: Path, limits: Limits) -> tuple[NDArray[Any], NDArray[Any]]:
    """Images (n, H, W) or (n, H, W, C) and labels (n,)."""
    with zipfile.ZipFile(path) as archive:
        members = [info.filename.removesuffix(".npy") for info in archive.infolist() if info.filename.endswith(".npy")]
        chosen = [one_of(path, members, wanted) for wanted in (IMAGES, LABELS)]
        for name in chosen:
            if members.count(name) > 1:
                raise RefusedError(f"{path} must hold {name} once. Save it again.")
        images, labels = (_described(archive, name, path) for name in chosen)
        check_described(path, [images], labels, limits)
        x, y = (_array(archive, name) for name in chosen)
        return x, y


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as member:
        array: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
        return array


def _described(archive: zipfile.ZipFile, name: str, path: Path) -> Described:
    """What a member's own header claims."""
    with archive.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        if version not in HEADERS:
            raise RefusedError(
                f"{path} must hold {name} as a plain array, not in NumPy's format {version}. Save it so."
            )
        length, header = HEADERS[version]
        if int.from_bytes(member.read(length), "little") > LONGEST_HEADER:
            raise RefusedError(
                f"{path} must hold {name} with a header of at most {LONGEST_HEADER:,} bytes. Save it anew."
            )
    with archive.open(f"{name}.npy") as member:
        np.lib.format.read_magic(member)
        shape, _, dtype = header(member)
    if dtype.hasobject:
        raise RefusedError(
            f"{name} in {path} must not be a pickle, which Python objects are saved as: reading one runs whatever "
            "program is in it. Save images as uint8, and labels as whole numbers or numpy.array(names, dtype=str)."
        )
    return Described(shape, dtype)
