"""The layers as stock ONNX operators, forwards and backwards. Images are (N, C, H, W), their weights (O, I, k, k).

One file of more than 200 lines, because a layer's forward and backward nodes stand together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastmeta.exports.onnx_graph import Graph
from fastmeta.networks.layers import (
    Affine,
    BatchNorm,
    Conv2d,
    Flatten,
    GlobalMeanPool,
    Layer,
    LayerNorm,
    Linear,
    MaxPool2d,
    ReLU,
    Softplus,
    Tanh,
)
from fastmeta.networks.network import Network
from fastmeta_kernels.layer_table import BATCH_NORM_EPSILON

Tensors = dict[str, str]  # parameter or statistic -> tensor
IMAGE, VECTOR = [0, 2, 3], [0]  # all axes but that of the channels


@dataclass
class Step:
    """What the way back needs of a layer: its input and output, its parameters' names, and what the layer noted."""

    layer: Layer
    x: str
    y: str
    shape: tuple[int, ...]  # of a sample before it, (H, W, C) or (F,)
    names: list[str]
    noted: tuple[Any, ...] = ()


def steps(net: Network) -> Iterator[tuple[int, Layer, list[str]]]:
    """Number, layer and parameter names of each layer."""
    names = iter(net.parameter_shapes)
    for i, layer in enumerate(net.layers):
        yield i, layer, [next(names) for _ in range(layer.parameter_arrays)]


def forward(
    g: Graph, net: Network, tensors: Tensors, x: str, first: int, last: int, held: bool = False, given: bool = False
) -> tuple[str, list[Step], Tensors]:
    """Output of layers first .. last - 1 where x enters, their steps, and NAME.slope, NAME.offset of each batch norm.

    held: batch norms are affine with the tensors NAME.slope and NAME.offset; given: their statistics are the
    tensors NAME.mean and NAME.r; otherwise those of the samples at hand.
    """
    made: list[Step] = []
    affine: Tensors = {}
    for i, layer, names in steps(net):
        if not first <= i < last:
            continue
        step = Step(layer, x, "", net.shapes[i], names)
        if isinstance(layer, BatchNorm):
            _norm(g, step, tensors, affine, held, given)
        else:
            FORWARD[type(layer)](g, step, tensors)
        made.append(step)
        x = step.y
    return x, made, affine


def backward(g: Graph, made: list[Step], tensors: Tensors, d: str, given: bool = False) -> Tensors:
    """The slope by each parameter of the steps, from the slope d by the last output."""
    slopes: Tensors = {}
    for step in reversed(made):
        wanted = step is not made[0]
        if isinstance(step.layer, BatchNorm):
            d = _norm_back(g, step, tensors, slopes, d, given)
        else:
            d = BACKWARD[type(step.layer)](g, step, tensors, slopes, d, wanted)
    return slopes


def _spread(g: Graph, step: Step, tensor: str) -> str:
    """A value a channel, shaped to be spread over samples and pixels."""
    return g.op("Reshape", tensor, g.constant([1, -1, 1, 1] if len(step.shape) == 3 else [1, -1]))


def _axes(step: Step) -> list[int]:
    return IMAGE if len(step.shape) == 3 else VECTOR


def _sum(g: Graph, step: Step, tensor: str) -> str:
    return g.op("ReduceSum", tensor, g.constant(_axes(step)), keepdims=0)


def _linear(g: Graph, step: Step, tensors: Tensors) -> None:
    step.y = g.op("Gemm", step.x, *(tensors[name] for name in step.names))


def _linear_back(g: Graph, step: Step, tensors: Tensors, slopes: Tensors, d: str, wanted: bool) -> str:
    weight, bias = step.names
    slopes[weight], slopes[bias] = g.op("Gemm", step.x, d, transA=1), _sum(g, step, d)
    return g.op("Gemm", d, tensors[weight], transB=1) if wanted else ""


def _conv(g: Graph, step: Step, tensors: Tensors) -> None:
    n = step.layer
    assert isinstance(n, Conv2d)
    parameters = (tensors[name] for name in step.names)
    step.y = g.op("Conv", step.x, *parameters, pads=[n.padding] * 4, strides=[n.stride] * 2)


def _conv_back(g: Graph, step: Step, tensors: Tensors, slopes: Tensors, d: str, wanted: bool) -> str:
    """dw is a convolution of x by dy with samples as channels, dx a transposed one."""
    n = step.layer
    assert isinstance(n, Conv2d)
    left = [(size + 2 * n.padding - n.kernel) % n.stride for size in step.shape[:2]]  # what no window reaches
    x = g.op("Transpose", step.x, perm=[1, 0, 2, 3])
    if any(rest > n.padding for rest in left):
        ends = [size - max(rest - n.padding, 0) for size, rest in zip(step.shape, left, strict=False)]
        x = g.op("Slice", x, g.constant([0, 0]), g.constant(ends), g.constant([2, 3]))
    pads = [n.padding] * 2 + [max(n.padding - rest, 0) for rest in left]
    dy = g.op("Transpose", d, perm=[1, 0, 2, 3])
    dw = g.op("Conv", x, dy, dilations=[n.stride] * 2, pads=pads)
    slopes[step.names[0]] = g.op("Transpose", dw, perm=[1, 0, 2, 3])
    if n.bias:
        slopes[step.names[1]] = g.op("ReduceSum", d, g.constant(IMAGE), keepdims=0)
    if not wanted:
        return ""
    weight, pads = tensors[step.names[0]], [n.padding] * 4
    return g.op("ConvTranspose", d, weight, pads=pads, strides=[n.stride] * 2, output_padding=left)


def _norm(g: Graph, step: Step, tensors: Tensors, affine: Tensors, held: bool, given: bool) -> None:
    name = step.names[0].split(".")[0]
    if held:
        slope, shift = (_spread(g, step, tensors[f"{name}.{part}"]) for part in ("slope", "offset"))
        step.y = g.op("Add", g.op("Mul", step.x, slope), shift)
        return
    scale, shift = (_spread(g, step, tensors[n]) for n in step.names)
    if given:
        mean, r = (_spread(g, step, tensors[f"{name}.{part}"]) for part in ("mean", "r"))
        apart = g.op("Sub", step.x, mean)
    else:
        mean = g.op("ReduceMean", step.x, axes=_axes(step), keepdims=1)
        apart = g.op("Sub", step.x, mean)
        variance = g.op("ReduceMean", g.op("Mul", apart, apart), axes=_axes(step), keepdims=1)
        r = g.op("Reciprocal", g.op("Sqrt", g.op("Add", variance, g.constant(np.float32(BATCH_NORM_EPSILON)))))
    hat = g.op("Mul", apart, r)
    step.y = g.op("Add", g.op("Mul", hat, scale), shift)
    step.noted = (r, hat, scale)
    slope = g.op("Mul", scale, r)
    flat = g.constant([-1])
    affine[f"{name}.slope"] = g.op("Reshape", slope, flat)
    affine[f"{name}.offset"] = g.op("Reshape", g.op("Sub", shift, g.op("Mul", slope, mean)), flat)


def _norm_back(g: Graph, step: Step, tensors: Tensors, slopes: Tensors, d: str, given: bool) -> str:
    r, hat, scale = step.noted
    along = g.op("Mul", d, hat)
    slopes[step.names[0]], slopes[step.names[1]] = _sum(g, step, along), _sum(g, step, d)
    if not given:
        mean, turn = (g.op("ReduceMean", a, axes=_axes(step), keepdims=1) for a in (d, along))
        d = g.op("Sub", g.op("Sub", d, mean), g.op("Mul", hat, turn))
    return g.op("Mul", g.op("Mul", d, r), scale)


def _layer_norm(g: Graph, step: Step, tensors: Tensors) -> None:
    scale, shift = (_spread(g, step, tensors[name]) for name in step.names)
    axes = list(range(1, len(step.shape) + 1))
    apart = g.op("Sub", step.x, g.op("ReduceMean", step.x, axes=axes, keepdims=1))
    variance = g.op("ReduceMean", g.op("Mul", apart, apart), axes=axes, keepdims=1)
    r = g.op("Reciprocal", g.op("Sqrt", g.op("Add", variance, g.constant(np.float32(BATCH_NORM_EPSILON)))))
    hat = g.op("Mul", apart, r)
    step.y = g.op("Add", g.op("Mul", hat, scale), shift)
    step.noted = (r, hat, scale, axes)


def _layer_norm_back(g: Graph, step: Step, tensors: Tensors, slopes: Tensors, d: str, wanted: bool) -> str:
    r, hat, scale, axes = step.noted
    slopes[step.names[0]], slopes[step.names[1]] = _sum(g, step, g.op("Mul", d, hat)), _sum(g, step, d)
    inner = g.op("Mul", d, scale)
    mean, turn = (g.op("ReduceMean", a, axes=axes, keepdims=1) for a in (inner, g.op("Mul", inner, hat)))
    return g.op("Mul", g.op("Sub", g.op("Sub", inner, mean), g.op("Mul", hat, turn)), r)


def _affine(g: Graph, step: Step, tensors: Tensors) -> None:
    scale, shift = (_spread(g, step, tensors[name]) for name in step.names)
    step.y = g.op("Add", g.op("Mul", step.x, scale), shift)
    step.noted = (scale,)


def _affine_back(g: Graph, step: Step, tensors: Tensors, slopes: Tensors, d: str, wanted: bool) -> str:
    slopes[step.names[0]], slopes[step.names[1]] = _sum(g, step, g.op("Mul", d, step.x)), _sum(g, step, d)
    return g.op("Mul", d, step.noted[0])


def _activation(kind: str) -> Callable[[Graph, Step, Tensors], None]:
    def write(g: Graph, step: Step, tensors: Tensors) -> None:
        step.y = g.op(kind, step.x)

    return write


def _activation_back(slope: Callable[[Graph, Step], str]) -> Callable[..., str]:
    def write(g: Graph, step: Step, tensors: Tensors, slopes: Tensors, d: str, wanted: bool) -> str:
        return g.op("Mul", d, slope(g, step))

    return write


def _relu_slope(g: Graph, step: Step) -> str:
    return g.op("Cast", g.op("Greater", step.x, g.constant(np.float32(0))), to=1)


def _tanh_slope(g: Graph, step: Step) -> str:
    return g.op("Sub", g.constant(np.float32(1)), g.op("Mul", step.y, step.y))


def _softplus_slope(g: Graph, step: Step) -> str:
    return g.op("Sigmoid", step.x)


def _max_pool(g: Graph, step: Step, tensors: Tensors) -> None:
    n = step.layer
    assert isinstance(n, MaxPool2d)
    step.y, places = g.two("MaxPool", step.x, kernel_shape=[n.size] * 2, strides=[n.size] * 2)
    step.noted = (places,)


def _max_pool_back(g: Graph, step: Step, tensors: Tensors, slopes: Tensors, d: str, wanted: bool) -> str:
    """Each slope goes to the place, among all of x, that was the first largest of its window."""
    flat = g.constant([-1])
    zeros = g.op("Reshape", g.op("Mul", step.x, g.constant(np.float32(0))), flat)
    found = g.op("ScatterElements", zeros, *(g.op("Reshape", a, flat) for a in (step.noted[0], d)), axis=0)
    return g.op("Reshape", found, g.op("Shape", step.x))


def _mean_pool(g: Graph, step: Step, tensors: Tensors) -> None:
    step.y = g.op("ReduceMean", step.x, axes=[2, 3], keepdims=0)


def _mean_pool_back(g: Graph, step: Step, tensors: Tensors, slopes: Tensors, d: str, wanted: bool) -> str:
    share = g.op("Mul", d, g.constant(np.float32(1 / (step.shape[0] * step.shape[1]))))
    spread = g.op("Reshape", share, g.constant([0, step.shape[2], 1, 1]))
    return g.op("Expand", spread, g.op("Shape", step.x))


def _flatten(g: Graph, step: Step, tensors: Tensors) -> None:
    image = len(step.shape) == 3
    step.y = g.op("Flatten", g.op("Transpose", step.x, perm=[0, 2, 3, 1]), axis=1) if image else step.x


def _flatten_back(g: Graph, step: Step, tensors: Tensors, slopes: Tensors, d: str, wanted: bool) -> str:
    if len(step.shape) != 3:
        return d
    return g.op("Transpose", g.op("Reshape", d, g.constant([-1, *step.shape])), perm=[0, 3, 1, 2])


FORWARD: dict[type[Layer], Callable[[Graph, Step, Tensors], None]] = {
    Linear: _linear,
    Conv2d: _conv,
    Affine: _affine,
    LayerNorm: _layer_norm,
    ReLU: _activation("Relu"),
    Tanh: _activation("Tanh"),
    Softplus: _activation("Softplus"),
    MaxPool2d: _max_pool,
    GlobalMeanPool: _mean_pool,
    Flatten: _flatten,
}
BACKWARD: dict[type[Layer], Callable[..., str]] = {
    Linear: _linear_back,
    Conv2d: _conv_back,
    Affine: _affine_back,
    LayerNorm: _layer_norm_back,
    ReLU: _activation_back(_relu_slope),
    Tanh: _activation_back(_tanh_slope),
    Softplus: _activation_back(_softplus_slope),
    MaxPool2d: _max_pool_back,
    GlobalMeanPool: _mean_pool_back,
    Flatten: _flatten_back,
}
