"""The functions of each layer, one file a kind; `LAYERS` finds what a layer is by its kind."""

from __future__ import annotations

from typing import Protocol

from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.cuda.layers import append, batch_norm, layer_norm, products
from fastmeta_kernels.cuda.layers.elementwise import Activation, MaxPool, MeanPool
from fastmeta_kernels.cuda.layout.network import Layer
from fastmeta_kernels.cuda.layout.places import Places, Sets


class LayerKind(Protocol):
    """A layer's four functions as jobs of a recording."""

    def forward(self, sets: Sets, layer: Layer, at: Places) -> None:
        """y."""

    def backward(self, sets: Sets, layer: Layer, at: Places) -> None:
        """dx, unless it is NONE, and the gradients of parameters."""

    def forward_tangent(self, sets: Sets, layer: Layer, at: Places) -> None:
        """y_dot."""

    def backward_tangent(self, sets: Sets, layer: Layer, at: Places) -> None:
        """dx_dot, unless it is NONE, and the tangents of the gradients of parameters."""


LAYERS: dict[int, LayerKind] = {
    lt.LINEAR: products,
    lt.CONVOLUTION: products,
    lt.BATCH_NORM: batch_norm,
    lt.RELU: Activation("ACTIVATION_RELU"),
    lt.TANH: Activation("ACTIVATION_TANH"),
    lt.SOFTPLUS: Activation("ACTIVATION_SOFTPLUS"),
    lt.MAX_POOL: MaxPool(),
    lt.GLOBAL_MEAN_POOL: MeanPool(),
    lt.AFFINE: batch_norm,
    lt.LAYER_NORM: layer_norm,
    lt.APPEND: append,
}
