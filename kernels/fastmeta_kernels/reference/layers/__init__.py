"""The four functions of each layer, one file a kind; `LAYERS` finds them by a row's kind, and what else they take."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.contract import Array
from fastmeta_kernels.reference.layers import (
    activations,
    affine,
    append,
    batch_norm,
    convolution,
    flatten,
    layer_norm,
    linear,
    max_pool,
    mean_pool,
)

Row = list[int]
Optional = Any  # an Array or None: a weight a layer lacks, a tangent that is zero


class Layer(NamedTuple):
    """A layer's functions, and the columns of its row that they take last: `f(x, weight, bias, *geometry)`.

    Those of a layer without parameters are f(x), f^T(dy, x), f'(x, x_dot) and, of f^T, (dy, dy_dot, x, x_dot).
    """

    functions: Any  # a module of this folder
    geometry: tuple[int, ...] = ()
    weighted: bool = True

    def forward(self, row: Row, x: Array, weight: Optional, bias: Optional) -> Array:
        """y."""
        given = (x, weight, bias) if self.weighted else (x,)
        y: Array = self.functions.forward(*given, *self._of(row))
        return y

    def backward(self, row: Row, dy: Array, x: Array, weight: Optional, need_dx: bool) -> tuple[Optional, ...]:
        """dx, None unless needed, dweight and dbias."""
        if self.weighted:
            gradients: tuple[Optional, ...] = self.functions.backward(dy, x, weight, *self._of(row), need_dx)
            return gradients
        return self.functions.backward(dy, x, *self._of(row)), None, None

    def forward_tangent(
        self, row: Row, x: Array, x_dot: Optional, weight: Optional, weight_dot: Optional, bias_dot: Optional
    ) -> Array:
        """y_dot."""
        given = (x, x_dot, weight, weight_dot, bias_dot) if self.weighted else (x, x_dot)
        y_dot: Array = self.functions.forward_tangent(*given, *self._of(row))
        return y_dot

    def backward_tangent(
        self,
        row: Row,
        dy: Array,
        dy_dot: Array,
        x: Array,
        x_dot: Optional,
        weight: Optional,
        weight_dot: Optional,
        need_dx: bool,
    ) -> tuple[Optional, ...]:
        """dx_dot, None unless needed, dweight_dot and dbias_dot."""
        given = dy, dy_dot, x, x_dot
        if self.weighted:
            given = *given, weight, weight_dot, *self._of(row), need_dx
            tangents: tuple[Optional, ...] = self.functions.backward_tangent(*given)
            return tangents
        return self.functions.backward_tangent(*given, *self._of(row)), None, None

    def _of(self, row: Row) -> tuple[int, ...]:
        return tuple(row[column] for column in self.geometry)


LAYERS = {
    lt.LINEAR: Layer(linear),
    lt.CONVOLUTION: Layer(convolution, (lt.STRIDE, lt.PADDING)),
    lt.BATCH_NORM: Layer(batch_norm),
    lt.RELU: Layer(activations, (lt.KIND,), weighted=False),
    lt.TANH: Layer(activations, (lt.KIND,), weighted=False),
    lt.SOFTPLUS: Layer(activations, (lt.KIND,), weighted=False),
    lt.MAX_POOL: Layer(max_pool, (lt.KERNEL,), weighted=False),
    lt.GLOBAL_MEAN_POOL: Layer(mean_pool, weighted=False),
    lt.FLATTEN: Layer(flatten, weighted=False),
    lt.AFFINE: Layer(affine),
    lt.APPEND: Layer(append),
    lt.LAYER_NORM: Layer(layer_norm),
}
