"""One layer laid out for the CPU, by its named fields, and the room that it takes."""

from __future__ import annotations

from dataclasses import dataclass

CACHE_LINE = 64
# Kinds that there are only here, behind any that layer_table may number: a last linear layer of few outputs, a
# convolution by tiles, batch norm and the max-pool behind it, where its windows are POOLED_SIZE x POOLED_SIZE, a linear
# layer of tasks in lanes.
NARROW, WINOGRAD, POOLED_NORM, IN_LANES = range(100, 104)
POOLED_SIZE = 2


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as the machine sees it: sizes, strides, and where a set and the packed parameters keep what is its own.

    x and y are its input's and output's values, dx and dy their deltas; a row of an image lies x_r or y_r behind the
    one before it, a sample x_n or y_n.
    """

    n: int  # samples
    kind: int
    h: int
    w: int
    c: int
    cp: int  # c in whole vectors
    oh: int
    ow: int
    oc: int
    ocp: int
    kernel: int
    x_n: int
    x_r: int
    y_n: int
    y_r: int
    relu: bool  # taken over from the layer behind
    stride: int
    padding: int
    weight: int  # packed; -1: none
    bias: int
    x: int
    dx: int
    y: int
    dy: int
    stats: int = 0
    transposed: int = 0
    panel: int = 0  # a thread's room for tiles
    sums: int = 0  # where `parts` partial sums of gradients over tiles lie in a workspace
    parts: int = 0


def up(count: int, unit: int) -> int:
    return -(-count // unit) * unit


class Room:
    """Scalars that are given away one after the other, in whole cache lines."""

    def __init__(self, line: int) -> None:
        self.line, self.size = line, 0

    def take(self, count: int) -> int:
        """Where `count` more begin."""
        start, self.size = self.size, self.size + up(count, self.line)
        return start
