"""Small image data sets for the tests: random, different for each class, in the usual folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import fastmeta as fm

SIZE = 8
PARTS = {"train": "train", "validation": "val", "test": "test"}  # and the folder of each


def pixels(seed: int, size: int = SIZE) -> np.ndarray:
    """A random image (size, size, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3)).astype(np.uint8)


def draw(path: Path, image: np.ndarray | None = None, **options) -> Path:
    """An image file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    chosen = pixels(sum(path.as_posix().encode())) if image is None else image
    Image.fromarray(chosen).save(path, **options)
    return path


def part_folders(root: Path, kinds: tuple[str, ...] = ("cat", "dog"), count: int = 3) -> Path:
    """PART/PART-KIND/0.png and so on; the same file's images differ from class to class."""
    for n, (folder, kind) in enumerate((folder, kind) for folder in PARTS.values() for kind in kinds):
        for i in range(count):
            draw(root / folder / f"{folder}-{kind}" / f"{i}.png", pixels(100 * n + i))
    return root


def images(root: Path, queries: int = 1, **options) -> fm.tasks.Images:
    """Tasks of two classes."""
    sizes = {"ways": 2, "shots": 1, "queries": queries, "image_size": SIZE}
    return fm.tasks.Images(root, **sizes | options)
