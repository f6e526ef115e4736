"""The functions of each layer, one file a kind; `LAYERS` finds what a layer is by its kind."""

from __future__ import annotations

from typing import Protocol

from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.cpu.layers import (
    activations,
    affine,
    append,
    convolution,
    in_lanes,
    layer_norm,
    linear,
    narrow,
    pooling,
)
from fastmeta_kernels.cpu.layers.batch_norm import passes as batch_norm
from fastmeta_kernels.cpu.layers.winograd import convolution as winograd
from fastmeta_kernels.cpu.layout.instruction import Code
from fastmeta_kernels.cpu.layout.layer import IN_LANES, NARROW, POOLED_NORM, WINOGRAD, Layer
from fastmeta_kernels.cpu.layout.places import Into, Places


class LayerKind(Protocol):
    """A layer's four functions as instructions. They write dx only where there is one (`Places.inner`)."""

    @property
    def RECTIFIES(self) -> bool:
        """Whether a ReLU that it took over is its own in all four functions; else passes mask its deltas."""

    @property
    def MASKS_INPUTS(self) -> bool:
        """Whether it masks what it passes back by the ReLU that made its input, and its y_dot by its own."""

    def forward(self, code: Code, layer: Layer, at: Places) -> None:
        """y."""

    def backward(self, code: Code, layer: Layer, at: Places, into: Into | None, transpose: bool) -> None:
        """dx, and the gradients of parameters unless `into` is None; transpose: the weight is not transposed yet."""

    def forward_tangent(self, code: Code, layer: Layer, at: Places) -> None:
        """y_dot."""

    def backward_tangent(self, code: Code, layer: Layer, at: Places, into: Into) -> None:
        """dx_dot, and the tangents of the gradients of parameters."""


LAYERS: dict[int, LayerKind] = {
    lt.LINEAR: linear,
    lt.CONVOLUTION: convolution,
    lt.BATCH_NORM: batch_norm.PLAIN,
    lt.RELU: activations,
    lt.TANH: activations,
    lt.SOFTPLUS: activations,
    lt.MAX_POOL: pooling.MAX,
    lt.GLOBAL_MEAN_POOL: pooling.MEAN,
    lt.FLATTEN: pooling.FLATTEN,
    lt.AFFINE: affine,
    lt.LAYER_NORM: layer_norm,
    lt.APPEND: append,
    NARROW: narrow,
    WINOGRAD: winograd,
    POOLED_NORM: batch_norm.WITH_POOL,
    IN_LANES: in_lanes,
}
