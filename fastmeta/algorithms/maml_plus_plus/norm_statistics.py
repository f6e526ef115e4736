"""Statistics of batch norm that are kept: measured on samples, and used in place of those of the samples at hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmeta.networks.layers import Affine, BatchNorm, Flatten, Layer
from fastmeta.networks.network import Network
from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.contract import Array


def norm_parameters(net: Network) -> list[str]:
    """Names of the scales and shifts of batch norm, in the order of theta."""
    return [name for name in net.parameter_shapes if name.startswith("norm")]


def norm_channels(net: Network) -> list[int]:
    """Channels of each batch norm; their sum is C."""
    return [net.parameter_shapes[name][0] for name in norm_parameters(net)[::2]]


def measure(net: Network, theta: Array, x: Array, device: str) -> Array:
    """Mean and biased variance of what each batch norm gets, (T, 2, C), of x (T, N, ...) with theta (T, P)."""
    means, variances = [], []
    for i, layer in enumerate(net.layers):
        if not isinstance(layer, BatchNorm):
            continue
        before = Network([*net.layers[:i], Affine(), Flatten()], net.input_shape)  # so that there are parameters
        channels, count = net.shapes[i][-1], int(net.table[i, lt.WEIGHT])
        shape = len(theta), channels
        identity = np.ones_like(theta, shape=shape), np.zeros_like(theta, shape=shape)
        padded = np.concatenate([theta[:, :count], *identity], axis=1)
        values = before.predict(padded, x, device=device).reshape(len(x), -1, channels)
        means.append(values.mean(axis=1))
        variances.append(values.var(axis=1))
    return np.stack([np.concatenate(means, axis=1), np.concatenate(variances, axis=1)], axis=1)


def task_means(net: Network, phi: Array, x: Array, device: str) -> Array:
    """Statistics (2, C) of sets x (T, N, ...) with phi (P,) or (T, P): means over tasks."""
    means: Array = measure(net, np.broadcast_to(phi, (len(x), phi.shape[-1])), x, device).mean(axis=0)
    return means


def by_name(net: Network, values: Array) -> dict[str, Array]:
    """Scales and shifts (S, B) of all batch norms as arrays by their names in net.views."""
    names = norm_parameters(net)
    edges = np.cumsum([net.parameter_shapes[name][0] for name in names])[:-1]
    return dict(zip(names, np.split(values, edges, axis=1), strict=True))


class FixedNorms:
    """`net` with given statistics in its batch norms: each is two affine layers, x_hat = r x - r mean and its own.

    `network` has 2 C more parameters than net, in arrays that `statistics` gives for any number of steps.
    """

    def __init__(self, net: Network) -> None:
        self.net = net
        layers: list[Layer] = []
        kept: list[int] = []  # which parameter arrays of `network` are net's, and which hold statistics
        added: list[int] = []
        for layer, row in zip(net.layers, net.table, strict=True):
            if isinstance(layer, BatchNorm):
                layers += [Affine(), Affine()]
                added += range(len(kept) + len(added), len(kept) + len(added) + 2)
            else:
                layers.append(layer)
            arrays = int(row[lt.WEIGHT] >= 0) + int(row[lt.BIAS] >= 0)
            kept += range(len(kept) + len(added), len(kept) + len(added) + arrays)
        self.network = Network(layers, net.input_shape, f"{net} with fixed statistics")
        names = list(self.network.parameter_shapes)
        self.names = dict(zip(net.parameter_shapes, (names[i] for i in kept), strict=True))
        self._added = [names[i] for i in added]
        self._arrays, self._places = np.array(kept), lt.places(self.network.table, kept)

    def widen(self, values: Any) -> Any:
        """Parameters (..., P), or rates with a last axis of 1, V or P, for `network`; what is added is 0."""
        shape, net = np.shape(values), self.net
        if shape in ((), (*shape[:-1], 1)):
            return values
        places = self._arrays if shape[-1] == len(net.parameter_shapes) else self._places
        count = len(self.network.parameter_shapes) if places is self._arrays else self.network.parameter_count
        wide = np.zeros_like(values, shape=(*shape[:-1], count))
        wide[..., places] = values
        return wide

    def statistics(self, values: Array) -> dict[str, Array]:
        """Parameter arrays (S + 1, channels) of `network` from means and variances (S + 1, 2, C)."""
        r = 1.0 / np.sqrt(values[:, 1] + lt.BATCH_NORM_EPSILON)
        edges = np.cumsum(norm_channels(self.net))[:-1]
        parts = zip(np.split(r, edges, axis=1), np.split(-r * values[:, 0], edges, axis=1), strict=True)
        return dict(zip(self._added, (part for pair in parts for part in pair), strict=True))
