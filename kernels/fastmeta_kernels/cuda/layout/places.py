"""Where the values of one layer lie in a pass over T sets: found once a layer, and handed to whatever it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from fastmeta_kernels.cuda.layout.network import ActivationSet, Layer, Layout
from fastmeta_kernels.cuda.layout.recording import NONE, Batched, Recording


class Sets(NamedTuple):
    """What is recorded, over T sets of N samples."""

    recording: Recording
    tasks: int
    samples: int


@dataclass(frozen=True, slots=True)
class Places:
    """Arrays of a layer; NONE where a pass, or the layer, has none."""

    x: Batched
    y: Batched
    dy: Batched
    x_dot: Batched
    y_dot: Batched
    dy_dot: Batched
    dx: Batched  # NONE at the first layer with parameters
    dx_dot: Batched
    weight: Batched
    bias: Batched
    weight_dot: Batched
    bias_dot: Batched
    dweight: Batched  # where a gradient, or its tangent, goes
    dbias: Batched
    mask: Batched  # what dx and dx_dot pass where it is positive: x behind a ReLU that the layer before took over
    y_mask: Batched  # what y_dot passes likewise: y, where this layer took over a ReLU
    statistics: Batched
    tangents: Batched


def places(
    network: Layout,
    i: int,
    itemsize: int,
    run: ActivationSet,
    dot: ActivationSet | None,
    theta: Batched,
    v: Batched = NONE,
    gradient: Batched = NONE,
) -> Places:
    """The places of layer i over the values of `run`, the tangents of `dot`, and parameters, direction and gradient."""
    layer, inner = network.layers[i], i > network.first
    weight, bias = _parameters(layer, theta, itemsize)
    weight_dot, bias_dot = _parameters(layer, v, itemsize)
    dweight, dbias = _parameters(layer, gradient, itemsize)
    return Places(
        x=run.values[i], y=run.values[i + 1], dy=run.deltas[i + 1], dx=run.deltas[i] if inner else NONE,
        x_dot=dot.values[i] if dot else NONE, y_dot=dot.values[i + 1] if dot else NONE,
        dy_dot=dot.deltas[i + 1] if dot else NONE, dx_dot=dot.deltas[i] if dot and inner else NONE,
        weight=weight, bias=bias, weight_dot=weight_dot, bias_dot=bias_dot, dweight=dweight, dbias=dbias,
        mask=run.values[i] if layer.rectified else NONE, y_mask=run.values[i + 1] if layer.relu else NONE,
        statistics=run.statistics[i], tangents=dot.statistics[i] if dot else NONE,
    )  # fmt: skip


def _parameters(layer: Layer, theta: Batched, itemsize: int) -> tuple[Batched, Batched]:
    weight, bias = (theta.at(place, itemsize) if place >= 0 else NONE for place in (layer.weight, layer.bias))
    return weight, bias
