"""Where values lie in an artifact's memory, and how much of it and of work it takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from fastmeta.exports.model import ExportModel
from fastmeta.networks.layers import (
    Affine,
    BatchNorm,
    Flatten,
    GlobalMeanPool,
    Layer,
    LayerNorm,
    MaxPool2d,
    ReLU,
    Softplus,
    Tanh,
)
from fastmeta_kernels import layer_table as lt

KINDS: dict[type[Layer], str] = {
    BatchNorm: "NORM",
    Affine: "AFFINE",
    LayerNorm: "LAYER_NORM",
    ReLU: "RELU",
    Tanh: "TANH",
    Softplus: "SOFTPLUS",
    MaxPool2d: "MAX_POOL",
    GlobalMeanPool: "MEAN_POOL",
}
ACTIVATIONS = ("RELU", "TANH", "SOFTPLUS")


class Place(NamedTuple):
    """A layer of the artifact: its row of the network's table, and where its values lie."""

    kind: str
    row: tuple[int, ...]
    array: int  # which parameter array its weight is
    x: int  # place of its input among a sample's kept values, -1: from outside
    y: int
    statistics: int  # place of its mean and deviation
    width: int  # values of a sample that leave it


@dataclass(frozen=True)
class Places:
    """The layers of a model, without those that do nothing, and what each needs."""

    model: ExportModel

    @cached_property
    def first(self) -> int:
        """The first layer that an inner step moves; all layers where there are none."""
        if self.model.kind != "steps":
            return len(self._kinds)
        moved = [bool(row[lt.WEIGHT] >= self.model.adapted[0]) for _, row in self._kinds]
        return moved.index(True)

    @cached_property
    def _kinds(self) -> list[tuple[str, np.ndarray]]:
        net = self.model.net
        pairs = zip(net.layers, net.table, strict=True)
        return [(KINDS.get(type(layer), "PRODUCT"), row) for layer, row in pairs if not isinstance(layer, Flatten)]

    @cached_property
    def layers(self) -> list[Place]:
        """In order. An activation lies in its input's place, unless another one, or the outside, does."""
        found: list[Place] = []
        here, kept, array, statistics = -1, 0, 0, 0
        for i, (kind, row) in enumerate(self._kinds):
            width = int(np.prod(row[lt.OUT_H : lt.OUT_C + 1]))
            x = here if i > self.first else -1
            if i >= self.first:
                follows = i > self.first and found[-1].kind not in ACTIVATIONS
                if kind in ACTIVATIONS and follows:
                    here = x
                else:
                    here, kept = kept, kept + width
            found.append(Place(kind, tuple(int(v) for v in row), array, x, max(here, 0), statistics, width))
            array += int(row[lt.WEIGHT] >= 0) + int(row[lt.BIAS] >= 0)
            statistics += 2 * int(row[lt.OUT_C]) if kind == "NORM" else 0
        return found

    @cached_property
    def kept(self) -> int:
        """Values of a sample that the way back needs."""
        moving = self.layers[self.first :]
        return max((layer.y + layer.width for layer in moving), default=0)

    @cached_property
    def kinds(self) -> set[str]:
        """Which kinds of layers occur."""
        return {layer.kind for layer in self.layers}

    @cached_property
    def statistics(self) -> int:
        """2 C: a mean and a deviation of each channel of each batch norm."""
        return sum(2 * layer.row[lt.OUT_C] for layer in self.layers if layer.kind == "NORM")

    @cached_property
    def features(self) -> int:
        """Values of a sample that enter the first layer that moves, or of its embedding."""
        return self.layers[self.first - 1].width if self.first else math.prod(self.model.net.input_shape)

    @cached_property
    def body_norm(self) -> bool:
        """Whether a batch norm lies before the first layer that moves."""
        return any(layer.kind == "NORM" for layer in self.layers[: self.first])

    @cached_property
    def moving_norm(self) -> bool:
        """Whether a batch norm lies behind it."""
        return any(layer.kind == "NORM" for layer in self.layers[self.first :])

    def turn(self, queries: int) -> int:
        """Values in each of the two buffers between which a pass goes to and fro."""
        widths = [layer.width for layer in self.layers]
        n = self.model.samples
        together = queries if self.model.batch_norm == "transductive" else 1
        body = (n if self.body_norm else 1) * max(widths[: self.first], default=0)
        moving = n if self.moving_norm and self.model.batch_norm == "frozen" else self.step_samples
        return max(together * max(widths), body, moving * max(widths[self.first :], default=0))

    @cached_property
    def step_samples(self) -> int:
        """The most samples of an inner step."""
        batches = self.model.batches
        return self.model.samples if batches is None else int(batches.shape[1])

    @cached_property
    def multiplications(self) -> tuple[int, int]:
        """Multiply-adds of a sample's pass through all layers, and through those that move."""
        counts = []
        for layer in self.layers:
            places = layer.row[lt.OUT_H] * layer.row[lt.OUT_W]
            counts.append(places * lt.weight_size(np.array(layer.row)) if layer.kind == "PRODUCT" else layer.width)
        return sum(counts), sum(counts[self.first :])
