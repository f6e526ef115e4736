"""Pixels as samples: one meaning for image files in folders and csv files, for arrays, and for single pictures."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fastmeta import checks
from fastmeta.floating import quiet
from fastmeta.inputs import features
from fastmeta.tasks.cache import optional

FORMATS = {  # Pillow's names, and the endings of such files; no format of these starts another program
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
}
ENDINGS = tuple(ending for endings in FORMATS.values() for ending in endings)
MOST_PIXELS = 64_000_000  # of one image file: a small file can claim to be enormous
MOST_BYTES = 2**28  # of one image file, 256 MiB
ORIENTATION = 0x0112  # the EXIF tag
Shape = tuple[int, int, int]  # height, width, channels


def read_images(paths: Iterable[str | os.PathLike[str]], shape: Sequence[int]) -> NDArray[np.float32]:
    """Image files as samples (n, H, W, C) in 0 .. 1, the same numbers as in the tasks of `Images`.

    shape: (H, W, C), where C is 3 for colour or 1 for grey; `learner.net.input_shape` is that of a trained network.
    The orientation that a camera notes (EXIF) is applied, other sizes are resized (Pillow's LANCZOS, the sides
    independently), transparency is dropped; grey of 16 bits is divided by 65,535, and floats must be in 0 .. 1.

    Raises ValueError, naming the file, where one is absent, damaged or no such image; ModuleNotFoundError where
    Pillow is missing.
    """
    if isinstance(paths, (str, os.PathLike)):
        raise TypeError(f"paths={paths!r} must be several paths. Give [{str(paths)!r}].")
    fits = len(shape) == 3 and shape[-1] in (1, 3)
    if not fits:
        raise ValueError(f"shape={tuple(shape)} must be (height, width, 1 or 3), as a network of images takes.")
    height, width, channels = (checks.integer("shape", side, 1) for side in shape)
    files = [Path(path) for path in paths]
    images = (read_file(path, (height, width, channels)) for path in files)
    x: NDArray[np.float32] = features(stacked(images, len(files), (height, width, channels)))
    return x


def read_file(path: Path, shape: Shape) -> NDArray[Any]:
    """One image file as (H, W, C), uint8 or, for grey of more than 8 bits, float32 in 0 .. 1."""
    with whole(str(path)), regular(path) as file:
        return _decode(file, shape)


def decode(file: IO[bytes], name: str, shape: Shape) -> NDArray[Any]:
    """An opened image file as `read_file` gives it."""
    with whole(name):
        return _decode(file, shape)


class RefusedError(ValueError):
    """A file that is refused, in words of its own."""


@contextmanager
def whole(name: str) -> Iterator[None]:
    """ValueError, naming the file, for whatever Pillow raises where it reads one that is damaged."""
    try:
        yield
    except (RefusedError, ModuleNotFoundError):
        raise
    except Exception as error:
        raise RefusedError(f"{name} must be a whole image file: {error}. Replace it or take it away.") from error


@contextmanager
def regular(path: Path) -> Iterator[IO[bytes]]:
    """A regular file of at most MOST_BYTES; OSError for others: a pipe would wait, a device never end."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise OSError("it is no regular file")
        if about.st_size > MOST_BYTES:
            raise OSError(f"it has {about.st_size:,} bytes, more than {MOST_BYTES:,}")
        yield file


@quiet
def ranged(pixels: NDArray[Any]) -> NDArray[Any]:
    """Pixels of any shape as uint8, or as float32 in 0 .. 1 where 8 bits do not hold them."""
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype.newbyteorder("=") == np.uint16:
        return np.asarray(np.divide(pixels, np.float32(65535), dtype=np.float32))
    if pixels.dtype.kind != "f":
        raise ValueError(
            f"its pixels of dtype {pixels.dtype} must be uint8, uint16, bool or floats of 0 .. 1: others do not say "
            "how bright white is. Convert it, pixels of 0 .. 255 by x.astype('uint8')"
        )
    if pixels.size and not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(
            f"its float pixels must be in 0 .. 1, not {pixels.min():.4g} .. {pixels.max():.4g}. Divide them by what "
            "white is, or give samples that are prepared otherwise to from_arrays"
        )
    return pixels.astype(np.float32, copy=False)


def fitted(pixels: NDArray[Any], shape: Shape) -> NDArray[Any]:
    """Ranged pixels (h, w) or (h, w, c) as (H, W, C): resized where they have another size, grey repeated."""
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.shape[:2] != shape[:2]:
        pillow = optional("PIL.Image", "Pillow")
        size, how = (shape[1], shape[0]), pillow.Resampling.LANCZOS
        if pixels.dtype == np.uint8 and pixels.shape[2] == 3:
            return np.asarray(pillow.fromarray(np.ascontiguousarray(pixels)).resize(size, how))
        planes = [pillow.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(pixels, -1, 0)]
        pixels = np.stack([np.asarray(plane.resize(size, how)) for plane in planes], axis=-1)
        pixels = pixels.clip(0, 1) if pixels.dtype == np.float32 else pixels
    return np.broadcast_to(pixels, shape)


def stacked(images: Iterable[NDArray[Any]], count: int, shape: Shape) -> NDArray[Any]:
    """`count` images (H, W, C) as one array: of uint8, or of float32 in 0 .. 1 as soon as one is."""
    x: NDArray[Any] = np.empty((count, *shape), np.uint8)
    done = 0
    for image in images:
        if image.dtype != np.uint8 and x.dtype == np.uint8:
            x = features(x)
        x[done] = image if image.dtype == x.dtype else features(image)
        done += 1
    if done < count:
        raise ValueError(f"it has {done} images, not {count}")
    return x


def joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Arrays of images (n, H, W, C) one after another, where some may be uint8 and others floats in 0 .. 1."""
    alike = len({part.dtype for part in parts}) == 1
    return np.concatenate([part if alike else features(part) for part in parts])


def _decode(file: IO[bytes], shape: Shape) -> NDArray[Any]:
    pillow = optional("PIL.Image", "Pillow")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of notes beside the pixels: damaged EXIF, a palette's transparency
        try:
            opened = pillow.open(file, formats=list(FORMATS))
        except pillow.UnidentifiedImageError:
            raise ValueError(f"it is none of {', '.join(FORMATS)}") from None
        with opened:
            width, height = opened.size
            if width * height > MOST_PIXELS:
                raise ValueError(f"it has {width} x {height} pixels, more than {MOST_PIXELS:,} in all")
            return prepared(opened, shape)


def prepared(image: Any, shape: Shape) -> NDArray[Any]:
    """A Pillow image as `read_file` gives its file."""
    image.load()
    upright = _upright(image, optional("PIL.Image", "Pillow").Transpose)
    return fitted(ranged(_pixels(upright, image.format, shape[2])), shape)


def _upright(image: Any, turns: Any) -> Any:
    """The image as viewers show it: turned and mirrored as its EXIF orientation says."""
    try:
        orientation = image.getexif().get(ORIENTATION)
    except Exception:  # EXIF that cannot be read says nothing about the pixels
        return image
    methods = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_270,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_90,
    }
    return image.transpose(methods[orientation]) if orientation in methods else image


def _pixels(image: Any, form: str | None, channels: int) -> NDArray[Any]:
    """uint8 (h, w) or (h, w, 3), or grey (h, w) of 16 bits or of floats."""
    if image.mode == "I" and form not in ("PNG", "PPM"):
        raise ValueError("it holds whole numbers of 32 bits, which do not say how bright white is: save it with 16")
    if image.mode == "I" or image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    return np.asarray(image if image.mode == "F" else image.convert("RGB" if channels == 3 else "L"))
