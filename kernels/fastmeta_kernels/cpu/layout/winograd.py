"""Which convolutions go by Winograd's small products, and how much room they take.

Of stride 1 by tiles of 4 x 4 outputs; of stride 2 by the phases of a whole image, of which a side has values that each
meet one of a few weights (`SCHEMES`). Either way there is a product for each pair of weights of the two sides.

FASTMETA_WINOGRAD, read as the package is imported: `auto` takes tiles and phases where they are faster, in float32; 1
takes them wherever they can be taken, in float64 too; 0 never does.
"""

from __future__ import annotations

import os

import numpy as np

from fastmeta_kernels.cpu.layout.layer import Layer

TILE, PATCH, TAPS = 4, 6, 3  # outputs, inputs and taps of a tile along a side
FREQUENCIES = PATCH * PATCH
PHASE_WEIGHTS, WHOLE_SIDES = 5, (7, 14)  # weights of a side of stride 2; inputs of a side that has a scheme
SCHEMES = np.array([[1, 1, 1, 1, 4], [2, 2, 2, 3, 7]])  # values of such a side for each weight
VALUES = SCHEMES.sum(axis=1)
BLOCK = 48  # tiles that are transformed and multiplied at a time: of 64 channels they stay in the second cache
PART = 512  # tiles of one partial sum of a weight's gradient, at least
MOST_PARTS = 4
PHASE_VALUES = 1280  # values of a channel, of the images whose phases are transformed and multiplied at a time
PHASE_PART = 16  # images of one partial sum, at least
FEWEST_CHANNELS, LEAST_SAVED = 16, 56  # of the rules below
PHASE_CHANNELS, PHASES_SAVED = 32, 1000


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


def takes_phases(
    chosen: str, taps: tuple[int, int, int], image: tuple[int, int], samples: int, channels: tuple[int, int], size: int
) -> bool:
    """Whether a convolution of (kernel, stride, padding) goes by phases, with `samples` images of inputs.

    Its products for a pair of channels are those of the values of two sides, directly those of the taps inside; so many
    must be saved in all that they pay for the transforms. Measured with 16 .. 128 channels, 1 .. 75 images; with 500 to
    1,000 saved they cost a Xeon an eighth of a whole meta-gradient, with more they gain.
    """
    if chosen == "0" or taps != (TAPS, 2, 1) or any(side not in WHOLE_SIDES for side in image):
        return False
    if chosen == "1":
        return True
    directly = [TAPS * ((side + 1) // 2) - 1 - side % 2 for side in image]
    saved = directly[0] * directly[1] - scheme_values(image[0]) * scheme_values(image[1])
    return samples * saved >= PHASES_SAVED and size == 4 and min(channels) >= PHASE_CHANNELS


def scheme(side: int) -> int:
    """The row of SCHEMES of a side of so many inputs that goes by phases."""
    return WHOLE_SIDES.index(side)


def weights(stride: int) -> int:
    """Weights of a side."""
    return PATCH if stride == 1 else PHASE_WEIGHTS


def scheme_values(side: int) -> int:
    """Values of a side of so many inputs that goes by phases."""
    return int(VALUES[scheme(side)])


def tiles(height: int, width: int) -> int:
    """Tiles of an image of outputs."""
    return -(-height // TILE) * -(-width // TILE)


def parts(layer: Layer) -> int:
    """Partial sums of a weight's gradient: the same for any number of threads."""
    count = layer.n // PHASE_PART if layer.stride == 2 else layer.n * tiles(layer.oh, layer.ow) // PART
    return max(1, min(MOST_PARTS, count))


def panel(layer: Layer, line: int) -> int:
    """Scalars that a thread needs: values on their way, and a block's of two pairs, `line` more a plane and a line."""
    c, o = layer.cp, layer.ocp
    if layer.stride == 1:
        return FREQUENCIES * (max(c, o) + 2 * (BLOCK * (c + o) + 2 * line))
    high, wide = scheme_values(layer.h), scheme_values(layer.w)
    images = max(1, min(layer.n, PHASE_VALUES // (high * wide)))
    return high * (wide * max(c, o) + 2 * (wide * images * (c + o) + 2 * line))
