"""Image files in folders: where they lie in the usual layouts, and how they become arrays."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta.tasks.cache import cache_folder, optional, written_beside
from fastmeta.tasks.images.splits import STEMS, csv_files, read_csv

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm")
MOST_PIXELS = 64_000_000  # of one image file: a small file can claim to be enormous
Files = dict[str, list[Path]]  # by class name


def find_files(root: Path, names: Mapping[str, Sequence[str]] | None) -> dict[str, Files]:
    """Image files by part and class: of a split by class name, of csv files, or of folders train, val and test.

    Raises FileNotFoundError or ValueError, which names what is missing and the layouts that are understood.
    """
    if names is not None:
        folders = _class_folders(root)
        return {part: _chosen(root, folders, chosen) for part, chosen in names.items()}
    if tables := csv_files(root):
        index: dict[str, Path] = {}
        return {part: _listed(root, table, index) for part, table in tables.items()}
    parts = {part: root / stem for part, stems in STEMS.items() for stem in stems if (root / stem).is_dir()}
    if not parts:
        raise FileNotFoundError(
            f'root="{root}" must hold folders train, val and test of class folders; or class folders and a split '
            "by class name; or images and train.csv, val.csv, test.csv; or files train, val and test as .npz, "
            ".h5 or .parquet. Give such a folder."
        )
    return {part: _class_folders(folder) for part, folder in parts.items()}


def decoded(parts: dict[str, Files], size: int) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Images (n, size, size, 3) and class numbers (n,) by part; a class's number is its place in the part.

    The first call resizes (Pillow's LANCZOS, the sides independently) and writes a cache for these very files,
    from which later calls read as they go, so that a part may be larger than the memory.
    """
    arrays = {}
    for part, files in parts.items():
        paths = [path for members in files.values() for path in members]
        y = np.repeat(np.arange(len(files)), [len(members) for members in files.values()])
        cache = cache_folder() / f"images-{size}x{size}-{_key(paths, size)}.npy"
        x = _read_cache(cache, (len(paths), size, size, 3))
        if x is None:
            x = _decode_all(paths, size, part, cache)
        arrays[part] = x, y
    return arrays


def decode(content: bytes, name: str, size: int) -> NDArray[np.uint8]:
    """One image file's bytes as (size, size, 3); ValueError, naming the file, where it is not a sane image."""
    pillow = optional("PIL.Image", "Pillow")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pillow.DecompressionBombWarning)
            with pillow.open(BytesIO(content)) as image:
                width, height = image.size
                if width * height > MOST_PIXELS:
                    raise ValueError(f"it has {width} x {height} pixels, more than {MOST_PIXELS:,} in all")
                return resized(image.convert("RGB"), size)
    except (OSError, ValueError, SyntaxError, EOFError, pillow.DecompressionBombError) as error:
        raise ValueError(f"{name} must be a whole image file: {error}. Replace it or take it away.") from error


def resized(image: Any, size: int) -> NDArray[np.uint8]:
    """A Pillow image as (size, size, channels); left as it is where it has that size."""
    pillow = optional("PIL.Image", "Pillow")
    if image.size != (size, size):
        image = image.resize((size, size), pillow.Resampling.LANCZOS)
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _decode_all(paths: Sequence[Path], size: int, part: str, cache: Path) -> NDArray[np.uint8]:
    tqdm = optional("tqdm", "tqdm").tqdm
    shape = (len(paths), size, size, 3)
    bar = tqdm(paths, desc=f"decoding {part}", unit="image", disable=None)
    try:
        with written_beside(cache) as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for path in bar:
                file.write(decode(path.read_bytes(), str(path), size).tobytes())
    except PermissionError as error:
        warnings.warn(
            f"The image cache {cache} cannot be written ({error}), so images are decoded on every start. "
            "Set FASTMETA_CACHE to a folder that can be written.",
            stacklevel=2,
        )
        return np.stack([decode(path.read_bytes(), str(path), size) for path in paths])
    x = _read_cache(cache, shape)
    if x is None:
        raise OSError(f"The image cache {cache} must be readable after it was written. Remove it and try again.")
    return x


def _read_cache(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    try:
        x = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError):  # absent or damaged: it is made again
        return None
    return x if x.dtype == np.uint8 and x.shape == shape else None


def _class_folders(root: Path) -> Files:
    """Images by class folder, of `root` or its folder images or data, in the order of names."""
    for folder in (root / "images", root / "data", root):
        found: Files = {}
        for place in sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else ():
            if members := _images(place):
                found[place.name] = members
        if found:
            return found
    raise FileNotFoundError(f"{root} must hold a folder of images for each class. Give such a folder.")


def _images(folder: Path) -> list[Path]:
    """Image files anywhere below a class folder (tieredImageNet and Tiny ImageNet have a folder in between)."""
    found = (Path(place) / name for place, _, names in os.walk(folder) for name in names)
    return sorted(path for path in found if path.suffix.lower() in ENDINGS)


def _chosen(root: Path, folders: Files, names: Sequence[str]) -> Files:
    missing = [name for name in names if name not in folders]
    if missing:
        listed = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise FileNotFoundError(f'root="{root}" must hold a folder of images for each class of split; not {listed}.')
    return {name: folders[name] for name in names}


def _listed(root: Path, table: Path, index: dict[str, Path]) -> Files:
    found: Files = {}
    for label, names in read_csv(table).items():
        for name in names:
            near = (root / name, root / "images" / name, root / label / name, root / "images" / label / name)
            path = next((place for place in near if place.is_file()), None)
            if path is None and not index:
                index.update({p.name: p for p in root.rglob("*") if p.suffix.lower() in ENDINGS})
            path = path or index.get(Path(name).name)
            if path is None:
                raise FileNotFoundError(f"{table} names {name}, which must lie below {root}. Add the image or drop it.")
            found.setdefault(label, []).append(path)
    return dict(sorted(found.items()))


def _key(paths: Sequence[Path], size: int) -> str:
    stats = ((str(path.resolve()), path.stat()) for path in paths)
    parts = [(name, s.st_size, s.st_mtime_ns) for name, s in stats]
    return hashlib.sha256(json.dumps([size, parts]).encode()).hexdigest()[:16]
