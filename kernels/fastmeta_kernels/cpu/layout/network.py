"""The layer table laid out for the CPU: padded channels, bordered images, offsets into one workspace.

Every position (the input, and the output of each row) is a buffer (N, H + 2B, W + 2B, CP): channels padded to whole
vectors, a border of B zero pixels for the convolutions beside it. Its value and its delta have the same strides, and
offsets name the first interior pixel. Border and padding are zero for ever: no kernel writes anything else there.
A ReLU behind a linear, convolution or batch-norm layer becomes a flag of that row, a max-pool of 2 x 2 behind batch
norm one row with it; a linear layer flattens by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.cpu.layout import winograd as winograd_layout
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES

# Fields of a plan row. First its geometry, which instructions copy (behind two columns of their own): N samples, the
# strides X_N, X_R, Y_N, Y_R of a sample and of an image row of input and output. X and Y are the input's and output's
# value, DX and DY their deltas, in a set; WEIGHT and BIAS are offsets into the packed parameters. The same in every
# row: FIRST, the first row with parameters, and where a set keeps dense outputs (N, O), their deltas and softmax;
# PANEL, a thread's room for tiles, and SUMS, where PARTS partial sums of gradients over tiles lie in a workspace.
N, KIND, H, W, C, CP, OH, OW, OC, OCP, KERNEL, X_N, X_R, Y_N, Y_R = range(2, 17)
GEOMETRY = 17
(
    RELU, STRIDE, PADDING, WEIGHT, BIAS, X, DX, Y, DY, STATS, TRANSPOSED, FIRST,
    OUTPUTS, OUTPUT_DELTAS, PROBABILITIES, O, PANEL, SUMS, PARTS,
) = range(GEOMETRY, GEOMETRY + 19)  # fmt: skip
IMAGE = GEOMETRY + 19  # what INPUT makes patches of: H, W, C, kernel, stride, padding; 0 where it copies
FIELDS = IMAGE + 6
# Kinds that there are only here, behind any that layer_table may number: a last linear layer of few outputs, a
# convolution by tiles, batch norm and the max-pool behind it, where its windows are POOLED_SIZE x POOLED_SIZE.
NARROW, WINOGRAD, POOLED_NORM = range(100, 103)
POOLED_SIZE = 2
FUSES_RELU = (lt.LINEAR, lt.CONVOLUTION, lt.BATCH_NORM)
CACHE_LINE = 64
FEW_VALUES = 16  # of a patch: a first convolution of so few reads patches that the input was copied to


class Block(NamedTuple):
    """A parameter array of theta: (pixels, C, O) from `start` on, and where its values lie among the packed ones."""

    start: int
    packed_start: int
    shape: tuple[int, int, int]
    strides: tuple[int, int, int]  # among the packed ones

    @property
    def size(self) -> int:
        """Number of values."""
        return prod(self.shape)


@dataclass(frozen=True)
class Plan:
    """A network for sets of `samples` samples in one dtype."""

    rows: NDArray[np.int64]  # (L, FIELDS)
    samples: int
    set_size: int  # scalars of a set: values, deltas, outputs, statistics, transposed weights
    blocks: tuple[Block, ...]  # the parameter arrays, in the order of theta
    packed: int  # length of the packed parameters
    edges: NDArray[np.int64]  # (V + 1,) boundaries of the parameter arrays among the packed ones
    zeros: int  # scalars at the start of a workspace that stay 0: "no bias", and what is outside an image
    sums: int  # scalars behind them, of partial sums


@lru_cache(maxsize=256)
def plan(table: bytes, samples: int, itemsize: int, winograd: str = winograd_layout.CHOSEN) -> Plan:
    """The plan of a layer table (its bytes) for `samples` samples of scalars of `itemsize` bytes.

    winograd: "auto", "0" or "1", as in `winograd_layout`.
    """
    logical = np.frombuffer(table, np.int64).reshape(-1, lt.FIELDS)
    width, line = VECTOR_BYTES // itemsize, CACHE_LINE // itemsize
    kept, relu = _fuse(logical)
    image = _patches(kept[0])
    if kept[-1][lt.KIND] == lt.LINEAR and not relu[-1] and len(kept) > 1 and 2 * kept[-1][lt.OUT_C] <= width:
        kept[-1][lt.KIND] = NARROW
    for i, row in enumerate(kept):
        if i > 0 and row[lt.KIND] == lt.CONVOLUTION and _by_tiles(row, samples, itemsize, winograd):
            row[lt.KIND] = WINOGRAD
    rows = np.zeros((len(kept), FIELDS), np.int64)
    rows[:, IMAGE:] = image
    first = next(i for i, row in enumerate(kept) if row[lt.WEIGHT] >= 0)
    geometry = _geometry(kept, width)

    size = 0

    def allocate(count: int) -> int:
        nonlocal size
        start, size = size, size + _up(count, line)
        return start

    strides = [((w + 2 * b) * cp, (h + 2 * b) * (w + 2 * b) * cp, b) for h, w, _, cp, b in geometry]
    places = []
    for (_, _, _, cp, b), (row_stride, sample_stride, _) in zip(geometry, strides, strict=True):
        corner = b * row_stride + b * cp
        places.append([allocate(samples * sample_stride) + corner for _ in ("value", "delta")])

    blocks: list[Block] = []
    edges, packed, parameters = [0], 0, 0
    for i, (row, source) in enumerate(zip(rows, kept, strict=True)):
        h, w, c, cp, _ = geometry[i]
        oh, ow, oc, ocp, _ = geometry[i + 1]
        row[[N, KIND, RELU, FIRST]] = samples, source[lt.KIND], relu[i], first
        row[[KERNEL, STRIDE]] = source[[lt.KERNEL, lt.STRIDE]]
        row[[PADDING, H, W, C, CP, OH, OW, OC, OCP]] = source[lt.PADDING], h, w, c, cp, oh, ow, oc, ocp
        row[[X, DX, X_R, X_N]] = *places[i], *strides[i][:2]
        row[[Y, DY, Y_R, Y_N]] = *places[i + 1], *strides[i + 1][:2]
        row[WEIGHT] = row[BIAS] = -1
        for field in (WEIGHT, BIAS):
            if source[lt.WEIGHT if field == WEIGHT else lt.BIAS] >= 0:
                shape, within, room = _weight(row) if field == WEIGHT else _vector(row)
                blocks.append(Block(parameters, packed, shape, within))
                row[field] = packed
                parameters += prod(shape)
                packed += _up(room, line)
                edges.append(packed)
        if source[lt.KIND] in (lt.BATCH_NORM, POOLED_NORM):
            row[STATS] = allocate(6 * cp)
        if source[lt.KIND] in (lt.LINEAR, lt.CONVOLUTION) and i > first:
            row[TRANSPOSED] = allocate(_weight(row)[2])
        if source[lt.KIND] == WINOGRAD:
            count = samples * winograd_layout.tiles(oh, ow)
            row[PARTS] = winograd_layout.parts(count)
            row[TRANSPOSED] = allocate(_weight(row)[2] + 2 * winograd_layout.FREQUENCIES * cp * ocp)

    zeros = _up(max(int(max(row[OCP], row[W] * row[CP])) for row in rows), line)
    by_tiles = rows[rows[:, KIND] == WINOGRAD]
    panels = [winograd_layout.panel(int(row[CP]), int(row[OCP]), line) for row in by_tiles]
    sums = [int(row[PARTS] * row[CP] * row[OCP]) * winograd_layout.FREQUENCIES for row in by_tiles]
    rows[:, PANEL], rows[:, SUMS] = _up(max(panels, default=0), line), zeros

    o = lt.output_count(logical)
    h, w, c, cp, border = geometry[-1]
    dense = cp == c and border == 0
    rows[:, [OUTPUTS, OUTPUT_DELTAS]] = places[-1] if dense else [allocate(samples * o), allocate(samples * o)]
    rows[:, PROBABILITIES] = allocate(samples * o)
    rows[:, O] = o
    return Plan(rows, samples, size, tuple(blocks), packed, np.array(edges, np.int64), zeros, max(sums, default=0))


def head_of(of: Plan, line: int) -> Plan:
    """The last row alone: a set of its outputs only, which reads its inputs in a set of the whole network."""
    rows, size = of.rows[-1:].copy(), 0
    row = rows[0]
    dense = row[OUTPUTS] == row[Y]
    row[FIRST] = 0
    counts = {Y: row[N] * row[Y_N], DY: row[N] * row[Y_N], PROBABILITIES: row[N] * row[O]}
    counts |= {TRANSPOSED: row[W] * row[CP] * row[OCP] * row[H]} if row[KIND] == lt.LINEAR else {}
    counts |= {} if dense else {OUTPUTS: row[N] * row[O], OUTPUT_DELTAS: row[N] * row[O]}
    for field, count in counts.items():
        row[field], size = size, size + _up(int(count), line)
    if dense:
        row[OUTPUTS], row[OUTPUT_DELTAS] = row[Y], row[DY]
    return replace(of, rows=rows, set_size=size)


def _up(count: int, unit: int) -> int:
    return -(-count // unit) * unit


def _fuse(logical: lt.Table) -> tuple[list[Any], list[int]]:
    """Rows without the Flatten and ReLU rows that a neighbour takes over, and the flags of those that take a ReLU."""
    kept: list[Any] = []
    relu: list[int] = []
    for i, row in enumerate(logical):
        if row[lt.KIND] == lt.FLATTEN:
            image = row[lt.IN_H] * row[lt.IN_W] > 1
            if not image or i + 1 == len(logical) or logical[i + 1, lt.KIND] == lt.LINEAR:
                continue
        if row[lt.KIND] == lt.RELU and kept and kept[-1][lt.KIND] in FUSES_RELU and not relu[-1]:
            relu[-1] = 1
            continue
        pools = row[lt.KIND] == lt.MAX_POOL and row[lt.KERNEL] == POOLED_SIZE
        if pools and kept and kept[-1][lt.KIND] == lt.BATCH_NORM:
            kept[-1][lt.KIND] = POOLED_NORM
            kept[-1][[lt.OUT_H, lt.OUT_W]] = row[[lt.OUT_H, lt.OUT_W]]
            continue
        kept.append(row.copy())
        relu.append(0)
    for before, row in pairwise(kept):  # a linear layer reads an image as it lies
        row[lt.IN_H : lt.IN_C + 1] = before[lt.OUT_H : lt.OUT_C + 1]
    return kept, relu


def _patches(row: Any) -> tuple[int, ...]:
    """Turn a first convolution of few values a pixel into one of 1 x 1 taps over patches; what they are made of."""
    kernel, c = int(row[lt.KERNEL]), int(row[lt.IN_C])
    if row[lt.KIND] != lt.CONVOLUTION or kernel == 1 or kernel**2 * c > FEW_VALUES:
        return (0,) * 6
    image = tuple(int(n) for n in row[[lt.IN_H, lt.IN_W, lt.IN_C, lt.KERNEL, lt.STRIDE, lt.PADDING]])
    row[[lt.IN_H, lt.IN_W, lt.IN_C]] = row[lt.OUT_H], row[lt.OUT_W], kernel**2 * c
    row[[lt.KERNEL, lt.STRIDE, lt.PADDING]] = 1, 1, 0
    return image


def _by_tiles(row: Any, samples: int, itemsize: int, winograd: str) -> bool:
    """Whether a convolution behind the first row goes by Winograd's tiles."""
    kernel, stride, padding, h, w, c, o = (
        int(row[k]) for k in (lt.KERNEL, lt.STRIDE, lt.PADDING, lt.OUT_H, lt.OUT_W, lt.IN_C, lt.OUT_C)
    )
    return winograd_layout.takes_tiles(winograd, (kernel, stride, padding), (h, w), samples, (c, o), itemsize)


def _geometry(kept: list[Any], width: int) -> list[tuple[int, int, int, int, int]]:
    """(H, W, C, CP, B) of every position."""
    shapes = [tuple(int(n) for n in kept[0][lt.IN_H : lt.IN_C + 1])]
    shapes += [tuple(int(n) for n in row[lt.OUT_H : lt.OUT_C + 1]) for row in kept]
    border = [0] * len(shapes)
    for i, row in enumerate(kept):
        if row[lt.KIND] == lt.CONVOLUTION:
            k, s, p = (int(n) for n in row[[lt.KERNEL, lt.STRIDE, lt.PADDING]])
            for n, out in zip(shapes[i][:2], shapes[i + 1][:2], strict=True):
                border[i] = max(border[i], p, (out - 1) * s + k - p - n)
                # outputs that the adjoint reads for input place `at`: taps of its residue class
                for at in range(n):
                    tap = (at + p) % s
                    highest = (at + p - tap) // s
                    lowest = highest - (max(0, -(-(k - tap) // s)) - 1)
                    border[i + 1] = max(border[i + 1], highest - (out - 1), -lowest)
    # The raw input is only read one scalar at a time where a linear or convolution layer comes first.
    dense = {0} if kept[0][lt.KIND] in (lt.LINEAR, lt.CONVOLUTION) else set()
    dense |= {len(kept)} if kept[-1][lt.KIND] == NARROW else set()
    padded = [_up(shape[2], 1 if i in dense else width) for i, shape in enumerate(shapes)]
    return [(h, w, c, cp, b) for (h, w, c), cp, b in zip(shapes, padded, border, strict=True)]


def _weight(row: NDArray[np.int64]) -> tuple[tuple[int, int, int], tuple[int, int, int], int]:
    """Shape (pixels, C, O) of a row's weight, its strides when packed, and its packed size."""
    kind, c, cp, oc, ocp = (int(n) for n in row[[KIND, C, CP, OC, OCP]])
    if kind not in (lt.LINEAR, lt.CONVOLUTION, NARROW, WINOGRAD):
        return _vector(row)
    pixels = int(row[KERNEL]) ** 2 if kind in (lt.CONVOLUTION, WINOGRAD) else int(row[H] * row[W])
    if kind == NARROW:
        return (pixels, c, oc), (cp, 1, pixels * cp), pixels * cp * oc
    return (pixels, c, oc), (cp * ocp, ocp, 1), pixels * cp * ocp


def _vector(row: NDArray[np.int64]) -> tuple[tuple[int, int, int], tuple[int, int, int], int]:
    """The same for a bias, a scale or a shift."""
    return (1, 1, int(row[OC])), (0, 0, 1), int(row[OCP])
