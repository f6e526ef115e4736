"""Where the values of one layer lie in a pass, as operands: found once a layer, and handed to whatever it is."""

from __future__ import annotations

from dataclasses import dataclass

from fastmeta_kernels.cpu.layout.instruction import NONE, G, Operand, P, R, S, U, at
from fastmeta_kernels.cpu.layout.layer import Layer

# Ways of writing a gradient: added; times the schedule's sign; times the rate of its row; to what lies behind P.
ADD, SIGNED, RATED, MATRIX = 1, 2, 32, 64
ADDED = ADD | SIGNED  # += sign * (...)
STEP = MATRIX | SIGNED | RATED  # parameters + sign * rate * (...)


@dataclass(frozen=True, slots=True)
class Into:
    """Where a layer's gradient of weight and bias goes, how, and with MATRIX what the weight's is added to."""

    weight: Operand
    bias: Operand
    flags: int = 0
    base: Operand = NONE

    @property
    def adds(self) -> bool:
        """Whether it is added, times the sign, to what is there."""
        return bool(self.flags & ADD)


@dataclass(frozen=True, slots=True)
class Places:
    """Values and deltas in set S, tangents in set R, parameters behind P, their direction behind U."""

    x: Operand
    y: Operand
    dx: Operand
    dy: Operand
    x_dot: Operand
    y_dot: Operand
    dx_dot: Operand
    dy_dot: Operand
    weight: Operand
    bias: Operand
    weight_dot: Operand
    bias_dot: Operand
    transposed: Operand  # the weight as `backward` reads it
    transposed_dot: Operand
    stats: Operand
    tangents: Operand
    inner: bool  # there is a dx and an x_dot: not before or at the first layer with parameters
    mask: Operand  # what dx passes where it is positive: x, where a ReLU that was taken over made it

    def into(self, layer: Layer, flags: int = 0, to: int = G) -> Into:
        """The gradient behind register `to`."""
        base = self.weight if flags & MATRIX else NONE
        return Into(_parameter(to, layer.weight), _parameter(to, layer.bias), flags, base)


def places(layer: Layer, inner: bool, mask: bool, features: int = S) -> Places:
    """The places of a layer whose input lies behind register `features`."""
    x = at(features, layer.x)
    return Places(
        x=x, y=at(S, layer.y), dx=at(S, layer.dx), dy=at(S, layer.dy),
        x_dot=at(R, layer.x), y_dot=at(R, layer.y), dx_dot=at(R, layer.dx), dy_dot=at(R, layer.dy),
        weight=_parameter(P, layer.weight), bias=_parameter(P, layer.bias),
        weight_dot=_parameter(U, layer.weight), bias_dot=_parameter(U, layer.bias),
        transposed=at(S, layer.transposed), transposed_dot=at(R, layer.transposed),
        stats=at(S, layer.stats), tangents=at(R, layer.stats), inner=inner, mask=x if mask else NONE,
    )  # fmt: skip


def _parameter(register: int, offset: int) -> Operand:
    return at(register, offset) if offset >= 0 else NONE
