"""The layer table laid out for the CPU: padded channels, bordered images, offsets into one workspace.

Every position (the input, and the output of each row) is a buffer (N, H + 2B, W + 2B, CP): channels padded to whole
vectors, a border of B zero pixels for the convolutions beside it. Its value and its delta have the same strides, and
offsets name the first interior pixel. Border and padding are zero for ever: no kernel writes anything else there.
A ReLU behind a linear, convolution or batch-norm layer becomes a flag of that row, a max-pool of 2 x 2 behind batch
norm one row with it; a linear layer flattens by itself.

Longer than 200 lines because each place depends on those before it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.cpu.layout import winograd as winograd_layout
from fastmeta_kernels.cpu.layout.layer import (  # fmt: skip
    CACHE_LINE,
    IN_LANES,
    NARROW,
    POOLED_NORM,
    POOLED_SIZE,
    WINOGRAD,
    Layer,
    Room,
    up,
)
from fastmeta_kernels.cpu.layout.packing import Block, Packing, weight
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES
from fastmeta_kernels.fused_layers import fused

FUSES_RELU = (lt.LINEAR, lt.CONVOLUTION, lt.BATCH_NORM)
PAGE = 4096  # bytes: so far apart two lines of memory share a set of the first cache
FEW_VALUES = 16  # of a patch: a first convolution of so few reads patches that the input was copied to


@dataclass(frozen=True)
class Plan:
    """A network for sets of `samples` samples in one dtype."""

    layers: tuple[Layer, ...]
    first: int  # the first layer with parameters
    samples: int
    set_size: int  # scalars of a set: values, deltas, outputs, statistics, transposed weights
    o: int  # outputs of a sample
    outputs: int  # where a set keeps them dense, (N, O), their deltas and their softmax
    output_deltas: int
    probabilities: int
    image: tuple[int, ...]  # what INPUT makes patches of: H, W, C, kernel, stride, padding; 0 where it copies
    blocks: tuple[Block, ...]  # the parameter arrays, in the order of theta
    packed: int  # length of the packed parameters
    edges: NDArray[np.int64]  # (V + 1,) boundaries of the parameter arrays among the packed ones
    zeros: int  # scalars at the start of a workspace that stay 0: "no bias", and what is outside an image
    sums: int  # scalars behind them, of partial sums
    panel: int  # scalars of which each of the threads that share an instruction has its own


@lru_cache(maxsize=256)
def plan(table: bytes, samples: int, itemsize: int, winograd: str = winograd_layout.CHOSEN) -> Plan:
    """The plan of a layer table (its bytes) for `samples` samples of scalars of `itemsize` bytes.

    A scalar of VECTOR_BYTES bytes is a vector with one task in each lane: nothing is padded, or transposed.
    winograd: "auto", "0" or "1", as in `winograd_layout`.
    """
    logical = np.frombuffer(table, np.int64).reshape(-1, lt.FIELDS)
    width, line = VECTOR_BYTES // itemsize, CACHE_LINE // itemsize
    kept, relu = _fuse(logical)
    image = _patches(kept[0])
    last = len(kept) - (2 if kept[-1][lt.KIND] == lt.APPEND else 1)
    if kept[last][lt.KIND] == lt.LINEAR and not relu[last] and last > 0 and 2 * kept[last][lt.OUT_C] <= width:
        kept[last][lt.KIND] = NARROW
    for i, row in enumerate(kept):
        if i > 0 and row[lt.KIND] == lt.CONVOLUTION and _by_winograd(row, samples, itemsize, winograd):
            row[lt.KIND] = WINOGRAD
        if itemsize == VECTOR_BYTES and row[lt.KIND] == lt.LINEAR:
            row[lt.KIND] = IN_LANES
            row[lt.IN_H : lt.IN_C + 1] = 1, 1, row[lt.IN_H : lt.IN_C + 1].prod()
    first = next(i for i, row in enumerate(kept) if row[lt.WEIGHT] >= 0)
    geometry = _geometry(kept, width)
    room = Room(line)
    positions = [_position(of, samples, room, itemsize) for of in geometry]
    packing = Packing(line)
    layers = []
    for i, row in enumerate(kept):
        here, behind = positions[i : i + 2]
        layer = Layer(
            n=samples, kind=int(row[lt.KIND]), **_sizes(geometry[i], geometry[i + 1]), kernel=int(row[lt.KERNEL]),
            stride=int(row[lt.STRIDE]), padding=int(row[lt.PADDING]), relu=relu[i], weight=-1, bias=-1,
            x=here.value, dx=here.delta, x_n=here.sample, x_r=here.line,
            y=behind.value, dy=behind.delta, y_n=behind.sample, y_r=behind.line,
        )  # fmt: skip
        layer = packing.put(layer, row[lt.WEIGHT] >= 0, row[lt.BIAS] >= 0)
        layers.append(_with_room(layer, room, i > first))

    zeros = up(max(max(layer.ocp, layer.w * layer.cp) for layer in layers), line)
    by_tiles = [layer for layer in layers if layer.kind == WINOGRAD]
    panel = up(max((winograd_layout.panel(layer, line) for layer in by_tiles), default=0), line)
    sums = max((layer.parts * _transform(layer) for layer in by_tiles), default=0)
    layers = [replace(layer, panel=panel, sums=zeros) for layer in layers]

    o = lt.output_count(logical)
    _, _, c, cp, border = geometry[-1]
    dense = cp == c and border == 0
    outputs, deltas = positions[-1][:2] if dense else (room.take(samples * o), room.take(samples * o))
    return Plan(
        tuple(layers), first, samples, outputs=outputs, output_deltas=deltas, probabilities=room.take(samples * o),
        o=o, set_size=room.size, image=image, blocks=tuple(packing.blocks), packed=packing.size,
        edges=np.array(packing.edges, np.int64), zeros=zeros, sums=sums, panel=panel,
    )  # fmt: skip


def head_of(of: Plan, line: int) -> Plan:
    """The last layer alone: a set of its outputs only, which reads its inputs in a set of the whole network."""
    layer, room = of.layers[-1], Room(line)
    y, dy = room.take(layer.n * layer.y_n), room.take(layer.n * layer.y_n)
    probabilities = room.take(layer.n * of.o)
    transposed = room.take(weight(layer)[2]) if layer.kind == lt.LINEAR else 0
    dense = of.outputs == layer.y
    outputs, deltas = (y, dy) if dense else (room.take(layer.n * of.o), room.take(layer.n * of.o))
    alone = replace(layer, y=y, dy=dy, transposed=transposed)
    return replace(
        of, layers=(alone,), first=0, set_size=room.size, outputs=outputs, output_deltas=deltas,
        probabilities=probabilities,
    )  # fmt: skip


class _Position(NamedTuple):
    """Where a position's value and delta begin in a set, and the strides of both."""

    value: int
    delta: int
    line: int
    sample: int


def _position(of: tuple[int, int, int, int, int], samples: int, room: Room, itemsize: int) -> _Position:
    h, w, _, cp, b = of
    line = (w + 2 * b) * cp
    sample = (h + 2 * b) * line
    if b > 0 and sample * itemsize % PAGE == 0:  # or one pixel of all samples shares one set of the cache
        sample += room.line
    corner = b * line + b * cp
    return _Position(*(room.take(samples * sample) + corner for _ in ("value", "delta")), line, sample)


def _sizes(x: tuple[int, int, int, int, int], y: tuple[int, int, int, int, int]) -> dict[str, int]:
    names = "h", "w", "c", "cp", "oh", "ow", "oc", "ocp"
    return dict(zip(names, (*x[:4], *y[:4]), strict=True))


def _with_room(layer: Layer, room: Room, inner: bool) -> Layer:
    """The layer with room in a set for what it keeps there."""
    if layer.kind in (lt.BATCH_NORM, POOLED_NORM):
        return replace(layer, stats=room.take(6 * layer.cp))
    if layer.kind == lt.LAYER_NORM:
        return replace(layer, stats=room.take(2 * layer.n))
    if layer.kind in (lt.LINEAR, lt.CONVOLUTION) and inner:
        return replace(layer, transposed=room.take(weight(layer)[2]))
    if layer.kind == WINOGRAD:
        transposed = room.take(weight(layer)[2] + 2 * _transform(layer))
        return replace(layer, parts=winograd_layout.parts(layer), transposed=transposed)
    return layer


def _transform(layer: Layer) -> int:
    """Scalars of a weight's transform."""
    return winograd_layout.weights(layer.stride) ** 2 * layer.cp * layer.ocp


def _fuse(logical: lt.Table) -> tuple[list[Any], list[bool]]:
    """Rows without those that a neighbour takes over, and the flags of those that take a ReLU."""
    kept: list[Any] = []
    relu: list[bool] = []
    for row, rectifies in fused(logical, FUSES_RELU, _is_left_out):
        pools = row[lt.KIND] == lt.MAX_POOL and row[lt.KERNEL] == POOLED_SIZE
        if pools and kept and kept[-1][lt.KIND] == lt.BATCH_NORM:
            kept[-1][lt.KIND] = POOLED_NORM
            kept[-1][[lt.OUT_H, lt.OUT_W]] = row[[lt.OUT_H, lt.OUT_W]]
            continue
        kept.append(row)
        relu.append(rectifies)
    for before, row in pairwise(kept):  # a linear layer reads an image as it lies
        row[lt.IN_H : lt.IN_C + 1] = before[lt.OUT_H : lt.OUT_C + 1]
    return kept, relu


def _is_left_out(logical: lt.Table, i: int) -> bool:
    """Whether a Flatten is no layer: pixels are padded, and only a linear layer reads them as they lie."""
    image = logical[i, lt.IN_H] * logical[i, lt.IN_W] > 1
    return not image or i + 1 == len(logical) or logical[i + 1, lt.KIND] == lt.LINEAR


def _patches(row: Any) -> tuple[int, ...]:
    """Turn a first convolution of few values a pixel into one of 1 x 1 taps over patches; what they are made of."""
    kernel, c = int(row[lt.KERNEL]), int(row[lt.IN_C])
    if row[lt.KIND] != lt.CONVOLUTION or kernel == 1 or kernel**2 * c > FEW_VALUES:
        return (0,) * 6
    image = tuple(int(n) for n in row[[lt.IN_H, lt.IN_W, lt.IN_C, lt.KERNEL, lt.STRIDE, lt.PADDING]])
    row[[lt.IN_H, lt.IN_W, lt.IN_C]] = row[lt.OUT_H], row[lt.OUT_W], kernel**2 * c
    row[[lt.KERNEL, lt.STRIDE, lt.PADDING]] = 1, 1, 0
    return image


def _by_winograd(row: Any, samples: int, itemsize: int, winograd: str) -> bool:
    """Whether a convolution behind the first row goes by Winograd's tiles or phases."""
    taps = int(row[lt.KERNEL]), int(row[lt.STRIDE]), int(row[lt.PADDING])
    h, w, c, oh, ow, o = (int(n) for n in row[lt.IN_H : lt.OUT_C + 1])
    rest = samples, (c, o), itemsize
    by_tiles = winograd_layout.takes_tiles(winograd, taps, (oh, ow), *rest)
    return by_tiles or winograd_layout.takes_phases(winograd, taps, (h, w), *rest)


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
    narrow = next((i for i, row in enumerate(kept) if row[lt.KIND] == NARROW), len(kept))
    dense |= set(range(narrow + 1, len(shapes)))
    padded = [up(shape[2], 1 if i in dense else width) for i, shape in enumerate(shapes)]
    return [(h, w, c, cp, b) for (h, w, c), cp, b in zip(shapes, padded, border, strict=True)]
