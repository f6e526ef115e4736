"""A layer table as the layered path runs it: ReLUs fused, vectors as 1 x 1 images, arrays for each position.

Position 0 is the input, position i + 1 the output of layer i, all dense in the order (T, N, H, W, C): Flatten is no
layer.
A ReLU behind a linear, convolution, batch-norm or affine layer is a flag of that layer, unless it is last: such an
output is `rectified`, and whoever writes its delta passes it on only where the output is positive.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.contract import Loss
from fastmeta_kernels.cuda.layout.recording import NONE, Batched, Recording
from fastmeta_kernels.fused_layers import fused

NORMS = (lt.BATCH_NORM, lt.AFFINE)
MOST_PIXELS = 16_000  # along a side of an image; see `Place` in patches.cuh
FUSES_RELU = (lt.LINEAR, lt.CONVOLUTION, *NORMS)


@dataclass(frozen=True)
class Layer:
    """One layer's sizes. weight and bias are places in theta, -1 where there is none."""

    kind: int
    h: int
    w: int
    c: int
    out_h: int
    out_w: int
    out_c: int
    kernel: int
    stride: int
    padding: int
    weight: int
    bias: int
    relu: bool = field(default=False, kw_only=True)  # its output is rectified
    rectified: bool = field(default=False, kw_only=True)  # its input is

    @property
    def inputs(self) -> int:
        """Values of one sample's input."""
        return self.h * self.w * self.c

    @property
    def outputs(self) -> int:
        """Values of one sample's output."""
        return self.out_h * self.out_w * self.out_c


@dataclass(frozen=True)
class Layout:
    """Layers in order; `first` is the first one with parameters: before it there is no delta and no tangent."""

    layers: tuple[Layer, ...]
    first: int
    parameters: int
    edges: tuple[int, ...]  # (V + 1,) boundaries of the parameter arrays

    @property
    def outputs(self) -> int:
        """O."""
        return self.layers[-1].outputs


@lru_cache(maxsize=256)
def layout(table: bytes) -> Layout:
    """The layout of a layer table, given as its bytes."""
    rows = np.frombuffer(table, np.int64).reshape(-1, lt.FIELDS)
    if (side := int(rows[:, [lt.IN_H, lt.IN_W]].max())) > MOST_PIXELS:
        raise ValueError(f'images of {side} pixels must have at most {MOST_PIXELS} on a side. Use device="cpu".')
    layers: list[Layer] = []
    for row, relu in fused(rows, FUSES_RELU, fuses_last=False):
        layer = Layer(*(int(n) for n in row), relu=relu, rectified=bool(layers) and layers[-1].relu)
        layers.append(replace(layer, kernel=1, stride=1, padding=0) if layer.kind == lt.LINEAR else layer)
    first = next(i for i, layer in enumerate(layers) if layer.weight >= 0)
    edges = tuple(int(n) for n in lt.blocks(rows))
    return Layout(tuple(layers), first, edges[-1], edges)


@dataclass(frozen=True)
class TaskData:
    """Addresses of the sets of T tasks; labels or targets, weights or NONE."""

    x: Batched
    labels: Batched
    targets: Batched
    weights: Batched
    samples: int
    loss: Loss | None
    log_probs: Batched = NONE  # of actions when they were drawn, where the loss has a ratio


@dataclass(frozen=True)
class ActivationSet:
    """What one pass leaves: the value and the delta of each position, and the statistics of each batch norm."""

    values: list[Batched]
    deltas: list[Batched]
    statistics: list[Batched]


def activation_set(recording: Recording, network: Layout, tasks: int, samples: int, tangents: bool) -> ActivationSet:
    """New arrays; those of tangents, and all deltas, begin behind the first layer with parameters."""
    values, deltas, statistics = [NONE], [NONE], []
    for i, layer in enumerate(network.layers):
        size = samples * layer.outputs
        moves = i >= network.first
        values.append(recording.array(tasks, size) if moves or not tangents else NONE)
        deltas.append(recording.array(tasks, size) if moves else NONE)
        normed = layer.c if layer.kind in NORMS else samples if layer.kind == lt.LAYER_NORM else 0  # each by its own
        statistics.append(recording.array(tasks, 2 * normed) if normed else NONE)
    return ActivationSet(values, deltas, statistics)
