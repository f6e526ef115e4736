"""Batch norm frozen at a support set: an affine network, in which no sample meets another."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastmeta.networks.layers import Affine, BatchNorm, Flatten, Layer
from fastmeta.networks.network import Network
from fastmeta_kernels.contract import Array
from fastmeta_kernels.layer_table import BATCH_NORM_EPSILON


class FrozenNorm(NamedTuple):
    """A batch norm that keeps the statistics of the samples z that it got."""

    layer: int
    begin: int  # theta[begin : begin + 2 C]: its scale, then its shift
    z: Array  # (T, N, ..., C)
    mean: Array  # (T, C) float64
    variance: Array  # (T, C) float64, biased


class Frozen(NamedTuple):
    """A network without batch norm, its parameters, and whence those in place of scales and shifts come."""

    net: Network
    theta: Array  # (T, P)
    norms: tuple[FrozenNorm, ...]


def frozen(net: Network, theta: Array, x: Array, device: str) -> tuple[Network, Array]:
    """`net` whose batch norms keep the statistics that the samples x give at theta, and its parameters.

    theta (P,) with x (N, ...) give (P,); (T, N, ...) samples give (T, P). Every batch norm becomes an affine layer,
    y = a x + b with a = scale / sqrt(variance + eps) and b = shift - a mean, in the places of its scale and shift.
    """
    single = x.ndim == len(net.input_shape) + 1
    found = freeze(net, theta, x[None] if single else x, device)
    return found.net, found.theta[0] if single else found.theta


def freeze(net: Network, theta: Array, x: Array, device: str) -> Frozen:
    """`net` frozen at the samples x (T, N, ...) with theta, (P,) or (T, P), and what each batch norm got of them."""
    affine = Network([Affine() if isinstance(n, BatchNorm) else n for n in net.layers], net.input_shape, str(net))
    phi = np.array(np.broadcast_to(theta, (len(x), net.parameter_count)))
    views = iter(affine.views(phi).items())
    norms: list[FrozenNorm] = []
    entry, z = 0, x
    place = 0
    for i, layer in enumerate(affine.layers):
        own = [next(views)[1] for _ in range(layer.parameter_arrays)]
        if isinstance(net.layers[i], BatchNorm):
            z = _between(affine, entry, i, phi, z, device)
            rows = z.reshape(len(z), -1, z.shape[-1])
            mean = rows.mean(axis=1, dtype=np.float64)
            variance = np.square(rows - mean[:, None]).mean(axis=1)
            norms.append(FrozenNorm(i, place, z, mean, variance))
            scale, shift = own
            slope = scale / np.sqrt(variance + BATCH_NORM_EPSILON)
            scale[...], shift[...] = slope, shift - slope * mean
            entry = i
        place += sum(values[0].size for values in own)
    return Frozen(affine, phi, tuple(norms))


def _between(net: Network, begin: int, end: int, theta: Array, z: Array, device: str) -> Array:
    """What leaves layer end - 1 where z (T, N, ...) enters layer `begin`, with theta (T, P)."""
    layers: list[Layer] = [*net.layers[begin:end], Affine(), Flatten()]  # the affine layer is the identity
    part = Network(layers, net.shapes[begin])
    start = sum(n.parameter_arrays for n in net.layers[:begin])
    stop = sum(n.parameter_arrays for n in net.layers[:end])
    own = [values.reshape(len(z), -1) for values in list(net.views(theta).values())[start:stop]]
    ones = np.ones_like(theta, shape=(len(z), net.shapes[end][-1]))
    parameters = np.concatenate([*own, ones, np.zeros_like(ones)], axis=1)
    return part.predict(parameters, z, device).reshape(*z.shape[:2], *net.shapes[end])
