"""The Omniglot images: decoded, verified, resized once and cached."""

from __future__ import annotations

import hashlib
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta.tasks.cache import cache_folder, keep, optional
from fastmeta.tasks.images.pixels import MOST_BYTES, regular
from fastmeta.tasks.omniglot.archives import ARCHIVES, Archive, Root, locate

SIDE = 28
_DRAWING = re.compile(r"(?:^|/)([^/]+/character\d\d)/\d{4}_\d\d\.png$")

Images = tuple[tuple[str, ...], NDArray[np.uint8]]


def load_images(root: Root = None, archives: Sequence[Archive] = ARCHIVES) -> Images:
    """Sorted names "ALPHABET/characterNN" (C,) and their drawings (C, drawers, 28, 28, 1), ink = 255.

    `root` as in `Omniglot`. The first call verifies, resizes (Pillow's LANCZOS on grey levels) and writes the
    cache that makes later calls fast; it belongs to these very files (path, size, time of change) and is
    rebuilt where it is damaged. Raises FileNotFoundError, ConnectionError, ValueError or ModuleNotFoundError.
    """
    sources = locate(root, archives)
    cache = cache_folder() / f"omniglot-{SIDE}x{SIDE}-{_key(sources, archives)}.npz"
    shape = (sum(a.characters for a in archives), archives[0].drawers, SIDE, SIDE, 1)
    cached = _read_cache(cache, shape)
    if cached is not None:
        return cached
    parts = [_decode(source, archive) for source, archive in zip(sources, archives, strict=True)]
    names = [name for part, _ in parts for name in part]
    order = sorted(range(len(names)), key=names.__getitem__)
    images = np.concatenate([part for _, part in parts])[order]
    names = [names[i] for i in order]
    keep(cache, lambda file: np.savez(file, names=np.array(names), images=images))
    return tuple(names), images


def _decode(source: Path, archive: Archive) -> tuple[list[str], NDArray[np.uint8]]:
    image_module = optional("PIL.Image", "Pillow")
    tqdm = optional("tqdm", "tqdm").tqdm
    cure = f"Delete it and download {archive.url} again."
    digest, drawings = hashlib.sha256(), []
    try:
        with _opened(source) as members:
            drawers = Counter(name.rsplit("/", 1)[0] for name in members)
            if len(drawers) != archive.characters or set(drawers.values()) != {archive.drawers}:
                raise ValueError(
                    f"{source} must hold {archive.characters} characters with {archive.drawers} drawings "
                    f"each, as {archive.name} does; it holds {len(drawers)} characters with {len(members)} "
                    f"drawings in all. {cure}"
                )
            for name in tqdm(sorted(members), desc=f"decoding {archive.name}", unit="image", disable=None):
                with image_module.open(BytesIO(members[name]()), formats=["PNG"]) as opened:
                    if opened.size != (archive.side, archive.side):
                        raise ValueError(
                            f"{name} in {source} must be {archive.side} pixels square, not {opened.size}. {cure}"
                        )
                    # grey levels: on one-bit images Pillow replaces LANCZOS with the nearest pixel
                    image = opened.convert("L")
                digest.update(name.encode() + image.tobytes())
                drawings.append(255 - np.asarray(image.resize((SIDE, SIDE), image_module.Resampling.LANCZOS)))
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, SyntaxError) as error:
        raise ValueError(f"{source} must be a whole, readable archive; reading failed: {error}. {cure}") from error
    if digest.hexdigest() != archive.digest:
        raise ValueError(
            f"{source} must hold the official {archive.name}; its drawings differ "
            f"(SHA-256 {digest.hexdigest()}, expected {archive.digest}). {cure}"
        )
    return sorted(drawers), np.stack(drawings).reshape(len(drawers), archive.drawers, SIDE, SIDE, 1)


@contextmanager
def _opened(source: Path) -> Iterator[dict[str, Callable[[], bytes]]]:
    if source.is_dir():
        yield _drawings({p.relative_to(source).as_posix(): partial(_content, p) for p in source.rglob("*.png")})
    else:
        with zipfile.ZipFile(source) as archive:
            yield _drawings({name: partial(_member, archive, name) for name in archive.namelist()})


def _content(path: Path) -> bytes:
    with regular(path) as file:
        return file.read()


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if (size := archive.getinfo(name).file_size) > MOST_BYTES:
        raise zipfile.BadZipFile(f"{name} has {size:,} bytes, more than {MOST_BYTES:,}")
    return archive.read(name)


def _drawings(files: Mapping[str, Callable[[], bytes]]) -> dict[str, Callable[[], bytes]]:
    return {name[match.start(1) :]: read for name, read in files.items() if (match := _DRAWING.search(name))}


def _read_cache(path: Path, shape: tuple[int, ...]) -> Images | None:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            names, images = file["names"], file["images"]
    except Exception:  # absent, or damaged in any way: it is built again
        return None
    whole = images.dtype == np.uint8 and images.shape == shape and names.shape == shape[:1]
    return (tuple(names.tolist()), images) if whole else None


def _key(sources: Sequence[Path], archives: Sequence[Archive]) -> str:
    parts: list[Any] = [SIDE, [(archive.name, archive.digest) for archive in archives]]
    for source in sources:
        paths = [source, *sorted(source.glob("*/*"))] if source.is_dir() else [source]
        parts += [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in paths]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
