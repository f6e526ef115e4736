"""How pictures became samples: what is done to a new one before a model sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fastmeta import checks
from fastmeta.inputs import features, is_picture
from fastmeta.tasks.cache import optional
from fastmeta.tasks.images.pixels import Shape, fitted, prepared, ranged, read_file, stacked, whole
from fastmeta_kernels.host import is_elsewhere


@dataclass(frozen=True)
class Pictures:
    """The preparation of pictures: samples (H, W, C) in 0 .. 1, as `Images` and `read_images` give them.

    shape: (H, W, C), C 3 for colour or 1 for grey. inverted: dark becomes bright, as Omniglot's ink does. A learner
    keeps that of the tasks it was trained on, and so does its checkpoint; its models then take pictures of any size.

    >>> Pictures((2, 2, 1)).samples(np.full((8, 8), 255, np.uint8))[0].shape
    (1, 2, 2, 1)
    """

    shape: Shape
    inverted: bool = False

    def __post_init__(self) -> None:
        shape = tuple(self.shape)
        if len(shape) != 3 or shape[-1] not in (1, 3):
            raise ValueError(f"shape={self.shape} must be (height, width, 1 or 3), as a network of images takes.")
        sides = tuple(checks.integer("shape", side, 1) for side in shape)
        checks.settle(self, shape=sides, inverted=checks.switch("inverted", self.inverted))

    def __str__(self) -> str:
        return f"pictures as {' x '.join(map(str, self.shape))}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"pictures": list(self.shape), "inverted": self.inverted}

    @classmethod
    def from_dict(cls, described: Mapping[str, Any]) -> Self:
        """What `to_dict` described; an error where it did not."""
        return cls(tuple(described["pictures"]), described["inverted"])

    def samples(self, x: Any) -> tuple[Any, bool]:
        """Samples (N, H, W, C), and whether x was a single picture.

        x: a path, a Pillow image, or an array (h, w) or (h, w, 1 or 3) of any size, uint8, uint16 or floats in 0 .. 1;
        several of these in a list, or an array (N, h, w, 1 or 3). Samples (N, H, W, C) or (T, N, H, W, C) that are
        uint8 or floats are taken as they are. Raises ValueError or TypeError where one is no picture, or is damaged.
        """
        if is_picture(x):
            return self._several([x]), True
        if isinstance(x, bytes) or hasattr(x, "read"):
            file = "io.BytesIO(x)" if isinstance(x, bytes) else "x"
            raise TypeError(f"x of {type(x)} must be a picture and not its file. Give PIL.Image.open({file}).")
        if is_elsewhere(x):
            return x, False
        several = isinstance(x, list | tuple) and x and all(is_picture(p) or isinstance(p, np.ndarray) for p in x)
        if several and any(is_picture(p) or p.shape != self.shape for p in x):
            return self._several(x), False
        given = checks.array("x", x)
        plain = given.dtype == np.uint8 or given.dtype.kind == "f"
        if given.ndim in (4, 5) and given.shape[-3:] == self.shape and plain:
            return given, False
        if given.ndim == 2 or (given.ndim == 3 and given.shape[2] in (1, 3, 4)):
            return self._several([given]), True
        if given.ndim == 4:
            return self._several(list(given)), False
        height, width, channels = self.shape
        raise ValueError(
            f"x of shape {given.shape} must be a picture (h, w) or (h, w, 1 or 3) of any size, or samples "
            f"(N, {height}, {width}, {channels}). Give one of these, or a path."
        )

    def _several(self, pictures: Any) -> NDArray[np.float32]:
        if not len(pictures):
            raise ValueError("x has no pictures. Give at least one.")
        x = stacked((self._one(p) for p in pictures), len(pictures), self.shape)
        if self.inverted:
            x = np.subtract(255 if x.dtype == np.uint8 else 1, x, dtype=x.dtype)
        return np.asarray(features(x))

    def _one(self, picture: Any) -> NDArray[Any]:
        """(H, W, C), uint8 or float32 in 0 .. 1."""
        if not is_picture(picture):
            return self._of_array(np.asarray(picture))
        if hasattr(picture, "getexif"):
            with whole("x"):
                return prepared(picture, self.shape)
        return read_file(Path(picture), self.shape)

    def _of_array(self, given: NDArray[Any]) -> NDArray[Any]:
        channels = self.shape[2]
        fits = given.ndim == 2 or (given.ndim == 3 and given.shape[2] in (1, 3))
        if not fits or 0 in given.shape:
            alpha = " Leave transparency out: x[..., :3]." if given.ndim == 3 and given.shape[-1] == 4 else ""
            raise ValueError(f"x of shape {given.shape} must be a picture (h, w) or (h, w, 1 or 3).{alpha}")
        try:
            pixels = ranged(given)
        except ValueError as error:
            raise ValueError(f"x must be a picture, but {error}.") from error
        if pixels.ndim == 3 and pixels.shape[2] == 3 and channels == 1:
            if pixels.dtype != np.uint8:
                raise ValueError(
                    "x is in colour, but the pictures that were learned from are grey. Give it in grey, or as uint8."
                )
            return prepared(optional("PIL.Image", "Pillow").fromarray(np.ascontiguousarray(pixels)), self.shape)
        return fitted(pixels, self.shape)
