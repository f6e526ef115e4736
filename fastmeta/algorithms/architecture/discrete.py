"""From a trained mixture to a network: the likeliest operation of each layer, and the widest channels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta import checks
from fastmeta.algorithms.architecture.operations import OPERATIONS
from fastmeta.networks.layers import Affine, BatchNorm, Conv2d, Layer, LayerNorm, Linear
from fastmeta.networks.network import Network

Array = NDArray[Any]
GATES = (BatchNorm, Affine, LayerNorm)  # their scales multiply channels


def multiply_adds(net: Network) -> int:
    """Multiply-adds of one sample's forward pass: those of the convolutions and linear layers."""
    total = 0
    for layer, before, after in zip(net.layers, net.shapes, net.shapes[1:], strict=False):
        if isinstance(layer, Conv2d):
            total += math.prod(after) * layer.kernel**2 * before[2]
        elif isinstance(layer, Linear):
            total += before[0] * after[0]
    return total


def with_operations(net: Network, chosen: Mapping[int, str]) -> Network:
    """`net` with one operation at each of some layers; ValueError where no layer of a network computes it."""
    layers: list[Layer] = []
    for index, (layer, before) in enumerate(zip(net.layers, net.shapes, strict=False)):
        name = chosen.get(index)
        if name == "identity" and before == layer.output_shape(before):
            continue
        if name is None or (name == "conv1" and isinstance(layer, Linear)):
            layers.append(layer)
        elif name.startswith("conv") and isinstance(layer, Conv2d):
            taps = OPERATIONS[name].taps
            layers.append(layer._replace(kernel=taps, padding=taps // 2))
        else:
            raise ValueError(
                f'"{name}" won at layer {index}, {layer}, and no layer computes it. Search with operations '
                '"conv1,conv3,conv5", with "identity" where strides are 1.'
            )
    return Network(layers, net.input_shape)


def with_widths(net: Network, theta: Array, keep: float) -> Network:
    """`net` with the share `keep` of all gated channels, those of the largest |scale|, at least one a layer.

    A gate is the scale of a norm behind a Conv2d.
    """
    share = checks.positive("keep", keep)
    if share > 1:
        raise ValueError(f"keep={keep} must be at most 1. Give the share of the channels that stay.")
    scales = gates(net, theta)
    if not scales:
        raise ValueError(f"{net} has no BatchNorm, Affine or LayerNorm behind a Conv2d, so no width to choose.")
    together = np.sort(np.concatenate([np.abs(scale) for scale in scales.values()]))[::-1]
    floor = together[max(round(share * together.size), 1) - 1]
    widths = {index: max(int((np.abs(scale) >= floor).sum()), 1) for index, scale in scales.items()}
    layers = [layer._replace(channels=widths[i]) if i in widths else layer for i, layer in enumerate(net.layers)]
    return Network(layers, net.input_shape)


def gates(net: Network, theta: Array) -> dict[int, Array]:
    """Scales (C,) of the norms right behind convolutions, by the index of the convolution in net.layers."""
    names, found, seen = list(net.views(theta).items()), dict[int, Array](), 0
    for index, layer in enumerate(net.layers):
        if isinstance(layer, GATES) and index and isinstance(net.layers[index - 1], Conv2d):
            found[index - 1] = names[seen][1]
        seen += layer.parameter_arrays
    return found
