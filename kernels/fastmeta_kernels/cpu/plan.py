"""The layer table laid out for the CPU: padded channels, bordered images, offsets into one workspace.

Every position (the input, and the output of each row) is a buffer (N, H + 2B, W + 2B, CP): channels padded to whole
vectors, a border of B zero pixels for the convolutions beside it. Its value and its delta have the same strides, and
offsets name the first interior pixel. Border and padding are zero for ever: no kernel writes anything else there.
A ReLU behind a linear, convolution or batch-norm layer becomes a flag of that row; a linear layer flattens by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.cpu.vector import VECTOR_BYTES

# Fields of a plan row. X and Y are the input's and output's value, DX and DY their deltas, in a set; *_N and *_R
# are strides of a sample and of an image row; WEIGHT and BIAS are offsets into the packed parameters. The same in
# every row: FIRST, the first row with parameters, and where a set keeps dense outputs (N, O), their deltas and softmax.
(
    KIND, RELU, H, W, C, CP, OH, OW, OC, OCP, KERNEL, STRIDE, PADDING, WEIGHT, BIAS,
    X, DX, X_N, X_R, Y, DY, Y_N, Y_R, STATS, TRANSPOSED, FIRST, OUTPUTS, OUTPUT_DELTAS, PROBABILITIES, O,
) = range(30)  # fmt: skip
FIELDS = 30
FUSES_RELU = (lt.LINEAR, lt.CONVOLUTION, lt.BATCH_NORM)
CACHE_LINE = 64


class Block(NamedTuple):
    """A parameter array: where it begins in theta and among the packed ones, its shape (h, w, C, O), padded or not."""

    start: int
    packed_start: int
    shape: tuple[int, int, int, int]
    padded: tuple[int, int, int, int]


@dataclass(frozen=True)
class Plan:
    """A network for sets of `samples` samples in one dtype."""

    rows: NDArray[np.int64]  # (L, FIELDS)
    samples: int
    set_size: int  # scalars of a set: values, deltas, outputs, statistics, transposed weights
    blocks: tuple[Block, ...]  # the parameter arrays, in the order of theta
    packed: int  # length of the packed parameters
    edges: NDArray[np.int64]  # (V + 1,) boundaries of the parameter arrays among the packed ones


@lru_cache(maxsize=256)
def plan(table: bytes, samples: int, itemsize: int) -> Plan:
    """The plan of a layer table (its bytes) for `samples` samples of scalars of `itemsize` bytes."""
    logical = np.frombuffer(table, np.int64).reshape(-1, lt.FIELDS)
    width, line = VECTOR_BYTES // itemsize, CACHE_LINE // itemsize
    kept, relu = _fuse(logical)
    rows = np.zeros((len(kept), FIELDS), np.int64)
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
        row[[KIND, RELU, FIRST, KERNEL, STRIDE]] = (
            source[lt.KIND],
            relu[i],
            first,
            source[lt.KERNEL],
            source[lt.STRIDE],
        )
        row[[PADDING, H, W, C, CP, OH, OW, OC, OCP]] = source[lt.PADDING], h, w, c, cp, oh, ow, oc, ocp
        row[[X, DX, X_R, X_N]] = *places[i], *strides[i][:2]
        row[[Y, DY, Y_R, Y_N]] = *places[i + 1], *strides[i + 1][:2]
        row[WEIGHT] = row[BIAS] = -1
        for field in (WEIGHT, BIAS):
            if source[lt.WEIGHT if field == WEIGHT else lt.BIAS] >= 0:
                padded = _padded_weight(row) if field == WEIGHT else (1, 1, 1, int(ocp))
                channels = int(c) if field == WEIGHT and _is_product(row) else 1
                shape = (*padded[:2], channels, int(oc))
                blocks.append(Block(parameters, packed, shape, padded))
                row[field] = packed
                parameters += prod(shape)
                packed += _up(prod(padded), line)
                edges.append(packed)
        if source[lt.KIND] == lt.BATCH_NORM:
            row[STATS] = allocate(4 * cp)
        if source[lt.KIND] in (lt.LINEAR, lt.CONVOLUTION) and i > first:
            row[TRANSPOSED] = allocate(prod(_padded_weight(row)))

    o = lt.output_count(logical)
    rows[:, [OUTPUTS, OUTPUT_DELTAS, PROBABILITIES]] = [allocate(samples * o) for _ in range(3)]
    rows[:, O] = o
    return Plan(rows, samples, size, tuple(blocks), packed, np.array(edges, np.int64))


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
        kept.append(row.copy())
        relu.append(0)
    for before, row in pairwise(kept):  # a linear layer reads an image as it lies
        row[lt.IN_H : lt.IN_C + 1] = before[lt.OUT_H : lt.OUT_C + 1]
    return kept, relu


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
    dense = kept[0][lt.KIND] in (lt.LINEAR, lt.CONVOLUTION)
    padded = [_up(shape[2], 1 if i == 0 and dense else width) for i, shape in enumerate(shapes)]
    return [(h, w, c, cp, b) for (h, w, c), cp, b in zip(shapes, padded, border, strict=True)]


def _is_product(row: NDArray[np.int64]) -> bool:
    return row[KIND] in (lt.LINEAR, lt.CONVOLUTION)


def _padded_weight(row: NDArray[np.int64]) -> tuple[int, int, int, int]:
    kind = row[KIND]
    if kind == lt.LINEAR:
        return int(row[H]), int(row[W]), int(row[CP]), int(row[OCP])
    if kind == lt.CONVOLUTION:
        return int(row[KERNEL]), int(row[KERNEL]), int(row[CP]), int(row[OCP])
    return 1, 1, 1, int(row[OCP])


def pack(values: NDArray[Any], plan: Plan) -> NDArray[Any]:
    """(A, packed) from (A, P); padding is zero."""
    rows = values.shape[0]
    packed = np.zeros((rows, plan.packed), values.dtype)
    for start, to, shape, padded in plan.blocks:
        place = packed[:, to : to + prod(padded)].reshape(rows, *padded)
        place[..., : shape[2], : shape[3]] = values[:, start : start + prod(shape)].reshape(rows, *shape)
    return packed


def unpack(packed: NDArray[Any], plan: Plan) -> NDArray[Any]:
    """(A, P) from (A, packed)."""
    rows, last = packed.shape[0], plan.blocks[-1]
    values = np.empty((rows, last.start + prod(last.shape)), packed.dtype)
    for start, to, shape, padded in plan.blocks:
        place = packed[:, to : to + prod(padded)].reshape(rows, *padded)
        values[:, start : start + prod(shape)].reshape(rows, *shape)[...] = place[..., : shape[2], : shape[3]]
    return values
