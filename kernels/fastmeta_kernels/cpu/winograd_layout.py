"""Which convolutions go by Winograd's tiles, and how much room they take.

FASTMETA_WINOGRAD, read as the package is imported: `auto` takes tiles where they are faster, in float32; 1 takes them
wherever they can be taken, in float64 too; 0 never does.
"""

from __future__ import annotations

import os

TILE, PATCH, TAPS = 4, 6, 3  # outputs, inputs and taps of a tile along a side
FREQUENCIES = PATCH * PATCH
MOST_TILES, LEAST_TILES = 48, 8  # of a block
CACHE = 900_000  # bytes of a block's tiles in both forms: they stay in the second cache
PART = 512  # tiles of one partial sum of a weight's gradient, at least
MOST_PARTS = 4


def _chosen() -> str:
    """FASTMETA_WINOGRAD, or else auto."""
    chosen = os.environ.get("FASTMETA_WINOGRAD") or "auto"
    if chosen not in ("0", "1", "auto"):
        raise ValueError(f'FASTMETA_WINOGRAD="{chosen}" must be 0, 1 or auto.')
    return chosen


CHOSEN = _chosen()


def takes_tiles(
    chosen: str,
    kernel: int,
    stride: int,
    padding: int,
    image: tuple[int, int],
    samples: int,
    c: int,
    o: int,
    itemsize: int,
) -> bool:
    """Whether a convolution from c channels to images (H, W) of o channels goes by tiles."""
    if chosen == "0" or (kernel, stride) != (TAPS, 1) or padding >= TAPS:
        return False
    return chosen == "1" or itemsize == 4


def tiles(height: int, width: int) -> int:
    """Tiles of an image of outputs."""
    return -(-height // TILE) * -(-width // TILE)


def block(c: int, o: int, itemsize: int) -> int:
    """Tiles that are transformed and multiplied at a time."""
    return max(LEAST_TILES, min(MOST_TILES, CACHE // (FREQUENCIES * (c + o) * itemsize)))


def parts(count: int) -> int:
    """Partial sums of a weight's gradient over `count` tiles: the same for any number of threads."""
    return max(1, min(MOST_PARTS, count // PART))


def panel(c: int, o: int, itemsize: int, line: int) -> int:
    """Scalars that a thread needs: values on their way, and a block's tiles with `line` more a plane."""
    temporary = FREQUENCIES * max(c, o)
    return temporary + FREQUENCIES * (block(c, o, itemsize) * (c + o) + 4 * line)
