"""Which convolutions go by Winograd's tiles, and how much room they take.

FASTMETA_WINOGRAD, read as the package is imported: `auto` takes tiles where they are faster, in float32; 1 takes them
wherever they can be taken, in float64 too; 0 never does.
"""

from __future__ import annotations

import os

TILE, PATCH, TAPS = 4, 6, 3  # outputs, inputs and taps of a tile along a side
FREQUENCIES = PATCH * PATCH
BLOCK = 48  # tiles that are transformed and multiplied at a time: of 64 channels they stay in the second cache
PART = 512  # tiles of one partial sum of a weight's gradient, at least
MOST_PARTS = 4
FEWEST_CHANNELS, LEAST_SAVED = 16, 56  # of the rule below


def _chosen() -> str:
    """FASTMETA_WINOGRAD, or else auto."""
    chosen = os.environ.get("FASTMETA_WINOGRAD") or "auto"
    if chosen not in ("0", "1", "auto"):
        raise ValueError(f'FASTMETA_WINOGRAD="{chosen}" must be 0, 1 or auto.')
    return chosen


CHOSEN = _chosen()


def takes_tiles(
    chosen: str, taps: tuple[int, int, int], image: tuple[int, int], samples: int, channels: tuple[int, int], size: int
) -> bool:
    """Whether a convolution of (kernel, stride, padding) goes by tiles, with `samples` images of outputs.

    A tile takes 36 products a pair of channels, a pixel 9 directly: at least half must be saved, and so many in all
    that they pay for the weight's transform. Measured with 16 .. 320 channels, 2 .. 42 pixels a side, 1 .. 320 images.
    """
    kernel, stride, padding = taps
    if chosen == "0" or (kernel, stride) != (TAPS, 1) or padding >= TAPS:
        return False
    if chosen == "1":
        return True
    pixels, count = image[0] * image[1], tiles(*image)
    saves = pixels >= 8 * count and samples * (pixels - 4 * count) >= LEAST_SAVED
    return saves and size == 4 and min(channels) >= FEWEST_CHANNELS


def tiles(height: int, width: int) -> int:
    """Tiles of an image of outputs."""
    return -(-height // TILE) * -(-width // TILE)


def parts(count: int) -> int:
    """Partial sums of a weight's gradient over `count` tiles: the same for any number of threads."""
    return max(1, min(MOST_PARTS, count // PART))


def panel(c: int, o: int, line: int) -> int:
    """Scalars that a thread needs: values on their way, and a block's tiles of two pairs, `line` more a plane."""
    return FREQUENCIES * (max(c, o) + 2 * (BLOCK * (c + o) + 2 * line))
