"""Image files as arrays, decoded once: a cache for each part, which notices files that change."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fastmeta.inputs import features
from fastmeta.tasks.cache import cache_folder, keep, optional
from fastmeta.tasks.images.pixels import Shape, read_file, stacked
from fastmeta.tasks.images.splits import Files

PREPARATION = 2  # counts up when the same files come out as other numbers
TICK = 0.02  # seconds, longer than the steps in which a file system notes times


def decoded(parts: dict[str, Files], size: int) -> dict[str, tuple[NDArray[Any], NDArray[np.int64]]]:
    """Images (n, size, size, 3) and class numbers (n,) by part; a class's number is its place in the part.

    Images are uint8, or float32 in 0 .. 1 in a part with grey images of more than 8 bits. The first call writes a
    cache for these very files, from which later calls read as they go, so that a part may be larger than the memory.
    """
    arrays = {}
    for part, files in parts.items():
        paths = [path for members in files.values() for path in members]
        y = np.repeat(np.arange(len(files)), [len(members) for members in files.values()])
        cache = cache_folder() / f"images-{size}x{size}-{_key(paths, size)}.npy"
        shape = (size, size, 3)
        x = _read_cache(cache, len(paths), shape)
        if x is None and _write_cache(cache, paths, shape, part):
            x = _read_cache(cache, len(paths), shape)
        arrays[part] = stacked(_images(paths, shape, part), len(paths), shape) if x is None else x, y
    return arrays


def _images(paths: Sequence[Path], shape: Shape, part: str) -> Any:
    tqdm = optional("tqdm", "tqdm").tqdm
    return (read_file(path, shape) for path in tqdm(paths, desc=f"decoding {part}", unit="image", disable=None))


class _DeepImageError(Exception):
    """An image of more than 8 bits among those that are written as uint8."""


def _write_cache(cache: Path, paths: Sequence[Path], shape: Shape, part: str) -> bool:
    def write(file: IO[bytes], dtype: Any) -> None:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
        np.lib.format.write_array_header_1_0(file, header | {"shape": (len(paths), *shape)})
        for image in _images(paths, shape, part):
            if image.dtype != np.uint8 and dtype == np.uint8:
                raise _DeepImageError
            file.write((features(image) if dtype == np.float32 else image).tobytes())

    try:
        return keep(cache, lambda file: write(file, np.uint8))
    except _DeepImageError:
        return keep(cache, lambda file: write(file, np.float32))


def _read_cache(path: Path, count: int, shape: Shape) -> NDArray[Any] | None:
    try:
        x = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except Exception:  # absent, or damaged in any way: it is made again
        return None
    return x if x.dtype in (np.uint8, np.float32) and x.shape == (count, *shape) else None


def _key(paths: Sequence[Path], size: int) -> str:
    """Of the files' places, sizes and times; the time of a file's last change of any kind cannot be set at will."""
    stats = [(str(path.resolve()), path.stat()) for path in paths]
    newest = max((about.st_ctime for _, about in stats), default=0.0)
    time.sleep(min(max(newest + TICK - time.time(), 0), TICK))  # so that whatever changes later has another time
    parts = [(name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for name, s in stats]
    return hashlib.sha256(json.dumps([PREPARATION, size, parts]).encode()).hexdigest()[:16]
