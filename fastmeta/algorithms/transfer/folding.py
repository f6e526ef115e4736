"""Batch norm with fixed statistics: folded into the layer before it, so that samples no longer meet in a batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fastmeta.floating import quiet
from fastmeta.networks.layers import BatchNorm, Conv2d, Flatten, Layer, Linear
from fastmeta.networks.network import Network
from fastmeta_kernels.contract import Array
from fastmeta_kernels.layer_table import BATCH_NORM_EPSILON


def norm_sizes(net: Network) -> list[int]:
    """Channels of each batch norm; ValueError where one does not follow a convolution or linear layer."""
    sizes = []
    for i, layer in enumerate(net.layers):
        if isinstance(layer, BatchNorm):
            if i == 0 or not isinstance(net.layers[i - 1], Conv2d | Linear):
                raise ValueError(
                    f"inductive=True must have each BatchNorm right behind a Conv2d or Linear, unlike {net}. "
                    "Use inductive=False, or move the BatchNorm."
                )
            sizes.append(net.shapes[i][-1])
    return sizes


def folded(net: Network, theta: Array, means: Array, variances: Array) -> tuple[Network, Array]:
    """The network and parameters in which y = scale (x - mean) / sqrt(variance + eps) + shift has become part of the
    layer before; means and variances (C,) hold the channels of all batch norms, in their order."""
    layers: list[Layer] = []
    parts: list[Array] = []
    names = iter(net.views(theta).items())
    at = 0
    for layer in net.layers:
        own = {name.split(".")[1]: values for name, values in _next(names, layer)}
        if isinstance(layer, BatchNorm):
            weight, bias = parts[-2:]
            stop = at + len(own["scale"])
            slope = own["scale"] / np.sqrt(variances[at:stop] + BATCH_NORM_EPSILON)
            parts[-2:] = weight * slope, (bias - means[at:stop]) * slope + own["shift"]
            at = stop
        elif isinstance(layer, Conv2d | Linear):
            parts += [own["weight"], own.get("bias", np.zeros(own["weight"].shape[-1]))]
            layers.append(layer._replace(bias=True) if isinstance(layer, Conv2d) else layer)
        else:
            layers.append(layer)
    return Network(layers, net.input_shape), np.concatenate([part.ravel() for part in parts]).astype(theta.dtype)


@quiet
def population_statistics(net: Network, theta: Array, batches: Iterable[Array], device: str) -> tuple[Array, Array]:
    """Mean and biased variance (C,) of what enters each batch norm, over all samples of `batches` (T, N, ...) each.

    Layer by layer, each behind batch norms that use their final statistics (Wu & Johnson 2021, arXiv 2105.07576,
    section 3, "precise" statistics).
    """
    batches = list(batches)
    means, variances = np.zeros(0), np.zeros(0)
    for i, layer in enumerate(net.layers):
        if not isinstance(layer, BatchNorm):
            continue
        ending = [Flatten()] if len(net.shapes[i]) == 3 else []
        prefix = Network([*net.layers[:i], *ending], net.input_shape)
        channels = net.shapes[i][-1]
        fold, phi = folded(prefix, theta[: prefix.parameter_count], means, variances)
        outputs = (fold.predict(phi, x, device=device).reshape(-1, channels) for x in batches)
        moments = [
            (len(y), y.mean(axis=0, dtype=np.float64), np.square(y, dtype=np.float64).mean(axis=0)) for y in outputs
        ]
        counts, firsts, seconds = (np.array(column) for column in zip(*moments, strict=True))
        mean, square = (np.average(column, axis=0, weights=counts) for column in (firsts, seconds))
        means = np.concatenate([means, mean])
        variances = np.concatenate([variances, np.maximum(square - mean**2, 0)])
    return means, variances


def _next(names: Any, layer: Layer) -> list[tuple[str, Array]]:
    """The parameter arrays of `layer`, which come next."""
    return [next(names) for _ in range(layer.parameter_arrays)]
