"""Batch norm as instructions, alone or with the max-pool behind it: all of them have the same operands."""

from __future__ import annotations

from dataclasses import dataclass

from fastmeta_kernels.cpu.layers.batch_norm.values import INNER, POOLED, RECTIFIED
from fastmeta_kernels.cpu.layout.instruction import (
    NORM_BACKWARD,
    NORM_BACKWARD_TANGENT,
    NORM_FORWARD,
    NORM_FORWARD_TANGENT,
    NORM_GRADIENT,
    OWN,
    POOL_BACKWARD,
    POOL_BACKWARD_TANGENT,
    POOL_FORWARD,
    POOL_FORWARD_TANGENT,
    POOL_SUMS,
    POOL_SUMS_TANGENT,
    SERIAL,
    Code,
    Operand,
)
from fastmeta_kernels.cpu.layout.layer import Layer
from fastmeta_kernels.cpu.layout.places import Into, Places


@dataclass(frozen=True)
class Norm:
    """The instructions of its four functions; a ReLU behind it is its own."""

    values: tuple[int, ...]
    deltas: tuple[int, ...]
    value_tangents: tuple[int, ...]
    delta_tangents: tuple[int, ...]
    pooled: bool
    RECTIFIES, MASKS_INPUTS = True, False

    def forward(self, code: Code, layer: Layer, at: Places) -> None:
        """y, and the statistics that every other function needs."""
        self._add(code, layer, at, self.values, at.y, inner=False)

    def forward_tangent(self, code: Code, layer: Layer, at: Places) -> None:
        """y_dot."""
        self._add(code, layer, at, self.value_tangents, at.y_dot, at.inner)

    def backward(self, code: Code, layer: Layer, at: Places, into: Into | None, transpose: bool) -> None:
        """dx, dscale and dshift."""
        self._add(code, layer, at, self.deltas, at.dx, at.inner)
        if into:
            self._gradient(code, layer, at.stats, into)

    def backward_tangent(self, code: Code, layer: Layer, at: Places, into: Into) -> None:
        """Their tangents."""
        self._add(code, layer, at, self.delta_tangents, at.dx_dot, at.inner)
        self._gradient(code, layer, at.tangents, into)

    def _add(
        self, code: Code, layer: Layer, at: Places, instructions: tuple[int, ...], out: Operand, inner: bool
    ) -> None:
        """What makes dx only where there is one."""
        flags = RECTIFIED * layer.relu + INNER * inner + POOLED * self.pooled
        values = {"x": at.x, "x_dot": at.x_dot, "dy": at.dy, "dy_dot": at.dy_dot, "out": out}
        scales = {"scale": at.weight, "shift": at.bias, "scale_dot": at.weight_dot, "shift_dot": at.bias_dot}
        places = values | scales | {"stats": at.stats, "tangents": at.tangents}
        for instruction in instructions:
            if inner or instruction not in (POOL_BACKWARD, POOL_BACKWARD_TANGENT):
                code.add(instruction, OWN, layer, **places, flags=flags)

    def _gradient(self, code: Code, layer: Layer, stats: Operand, into: Into) -> None:
        """Gradients of scale and shift from the statistics, of which they are a part."""
        code.add(NORM_GRADIENT, SERIAL, layer, stats=stats, scale=into.weight, shift=into.bias, add=into.adds)


PLAIN = Norm((NORM_FORWARD,), (NORM_BACKWARD,), (NORM_FORWARD_TANGENT,), (NORM_BACKWARD_TANGENT,), pooled=False)
WITH_POOL = Norm(
    (NORM_FORWARD, POOL_FORWARD),
    (POOL_SUMS, POOL_BACKWARD),
    (NORM_FORWARD_TANGENT, POOL_FORWARD_TANGENT),
    (POOL_SUMS_TANGENT, POOL_BACKWARD_TANGENT),
    pooled=True,
)
