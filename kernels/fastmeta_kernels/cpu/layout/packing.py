"""Parameters among each other: the arrays of theta with channels padded to whole vectors, each from a cache line on."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import NamedTuple

from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.cpu.layout.layer import IN_LANES, NARROW, WINOGRAD, Layer, up


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


class Packing:
    """Parameter arrays, packed one behind the other in the order of theta."""

    def __init__(self, line: int) -> None:
        self.line, self.size = line, 0
        self._parameters = 0
        self.blocks: list[Block] = []
        self.edges = [0]

    def put(self, layer: Layer, has_weight: bool, has_bias: bool) -> Layer:
        """The layer with places for its parameters."""
        start = self._put(*weight(layer)) if has_weight else -1
        return replace(layer, weight=start, bias=self._put(*vector(layer)) if has_bias else -1)

    def _put(self, shape: tuple[int, int, int], strides: tuple[int, int, int], room: int) -> int:
        start = self.size
        self.blocks.append(Block(self._parameters, start, shape, strides))
        self._parameters += prod(shape)
        self.size += up(room, self.line)
        self.edges.append(self.size)
        return start


def weight(layer: Layer) -> tuple[tuple[int, int, int], tuple[int, int, int], int]:
    """Shape (pixels, C, O) of a layer's weight, its strides when packed, and its packed size."""
    if layer.kind == lt.APPEND:
        return (1, 1, layer.oc - layer.c), (0, 0, 1), layer.oc - layer.c
    if layer.kind not in (lt.LINEAR, lt.CONVOLUTION, NARROW, WINOGRAD, IN_LANES):
        return vector(layer)
    pixels = layer.kernel**2 if layer.kind in (lt.CONVOLUTION, WINOGRAD) else layer.h * layer.w
    c, cp = layer.c, layer.cp
    oc, ocp = layer.oc, layer.ocp
    if layer.kind == NARROW:
        return (pixels, c, oc), (cp, 1, pixels * cp), pixels * cp * oc
    return (pixels, c, oc), (cp * ocp, ocp, 1), pixels * cp * ocp


def vector(layer: Layer) -> tuple[tuple[int, int, int], tuple[int, int, int], int]:
    """The same for a bias, a scale or a shift."""
    return (1, 1, layer.oc), (0, 0, 1), layer.ocp
