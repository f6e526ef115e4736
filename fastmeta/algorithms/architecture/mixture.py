"""A network whose kernels are mixtures of operations: its theta from weights and architecture, and their slopes.

Of a kernel K = sum_o p_o E_o w_o with p = softmax(a) and g = d Q / d K,
d Q / d w_o = p_o E_o^T g and d Q / d a_o = p_o (s_o - sum_j p_j s_j) with s_o = <g, E_o w_o>.
The expected multiply-adds are sum_o p_o c_o at each mixed layer, so their slopes by a are those with s = c.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta.algorithms.architecture.discrete import multiply_adds
from fastmeta.algorithms.architecture.operations import OPERATIONS, Operation
from fastmeta.networks.layers import Conv2d, Linear, Shape
from fastmeta.networks.network import Network

Array = NDArray[Any]


@dataclass(frozen=True)
class MixedKernel:
    """One mixed layer: its place in the network's layers, its kernel's place in theta, its candidates."""

    layer: int
    name: str  # of its weight in net.views
    start: int
    kernel: Shape  # (k, k, I, O)
    operations: tuple[str, ...]

    @property
    def candidates(self) -> tuple[Operation, ...]:
        """The operations of these names."""
        return tuple(OPERATIONS[name] for name in self.operations)

    @property
    def place(self) -> slice:
        """Of the kernel in theta."""
        return slice(self.start, self.start + math.prod(self.kernel))


@dataclass(frozen=True)
class Mixture:
    """The mixed layers of a network: hidden Linear layers and centred Conv2d layers in which two candidates fit."""

    net: Network
    operations: Sequence[str]

    @cached_property
    def kernels(self) -> tuple[MixedKernel, ...]:
        """Each mixed layer, in order."""
        found, seen, start = [], {"conv": 0, "linear": 0}, 0
        last = max((i for i, one in enumerate(self.net.layers) if isinstance(one, Linear)), default=-1)
        for index, (layer, before) in enumerate(zip(self.net.layers, self.net.shapes, strict=False)):
            own = layer.parameters(before)
            if isinstance(layer, (Conv2d, Linear)):
                seen[layer.noun] += 1
                kernel = own["weight"] if isinstance(layer, Conv2d) else (1, 1, *own["weight"])
                fit = [name for name in self.operations if OPERATIONS[name].fits(kernel)]
                if layer.output_shape(before) != before and "identity" in fit:
                    fit.remove("identity")
                centred = isinstance(layer, Linear) or layer.padding == layer.kernel // 2
                if len(fit) > 1 and centred and index != last:
                    found.append(
                        MixedKernel(index, f"{layer.noun}{seen[layer.noun]}.weight", start, kernel, tuple(fit))
                    )
            start += sum(math.prod(shape) for shape in own.values())
        return tuple(found)

    def first(self, theta: Array) -> tuple[Array, Array]:
        """Weights of all operations, flat, from the kernels of theta, and an architecture that prefers none."""
        weights = [
            operation.first(theta[one.place].reshape(one.kernel)).ravel()
            for one in self.kernels
            for operation in one.candidates
        ]
        return np.concatenate(weights), np.zeros(sum(len(one.operations) for one in self.kernels), theta.dtype)

    def theta(self, theta: Array, weights: Array, architecture: Array) -> Array:
        """theta (P,) with K = sum_o p_o E_o w_o at the mixed kernels."""
        mixed = theta.copy()
        for one, own, p, _ in self._parts(weights, architecture):
            kernel = np.zeros(one.kernel, theta.dtype)
            for operation, share, w in zip(one.candidates, p, own, strict=True):
                kernel += share * operation.place(w, one.kernel)
            mixed[one.place] = kernel.ravel()
        return mixed

    def slopes(self, gradient: Array, weights: Array, architecture: Array) -> tuple[Array, Array, Array]:
        """d Q by what of theta is not mixed (P,), by the weights and by the architecture, from d Q / d theta."""
        rest, d_weights, d_architecture = gradient.copy(), np.zeros_like(weights), np.zeros_like(architecture)
        places = self._parts(weights, architecture), self._parts(d_weights, architecture)
        for (one, own, p, at), (_, d_own, _, _) in zip(*places, strict=True):
            g = gradient[one.place].reshape(one.kernel)
            rest[one.place] = 0
            for operation, share, d_w in zip(one.candidates, p, d_own, strict=True):
                d_w[...] = share * operation.take(g)
            s = np.array([np.vdot(g, o.place(w, one.kernel)) for o, w in zip(one.candidates, own, strict=True)])
            d_architecture[at] = _by_architecture(p, s)
        return rest, d_weights, d_architecture

    def multiply_adds(self, architecture: Array) -> tuple[float, Array]:
        """Those of a sample's forward pass, expected over one operation drawn a layer, and their slopes by a."""
        slopes = np.zeros(architecture.shape)
        total = float(multiply_adds(self.net))
        for one, _, p, at in self._parts(self._no_weights, architecture):
            shape = self.net.shapes[one.layer + 1]
            pixels = math.prod(shape[:-1])
            costs = pixels * np.array([o.multiply_adds(one.kernel) for o in one.candidates], np.float64)
            total += float(p @ costs) - pixels * math.prod(one.kernel)
            slopes[at] = _by_architecture(p, costs)
        return total, slopes

    def probabilities(self, architecture: Array) -> dict[str, dict[str, float]]:
        """p = softmax(a) of each mixed layer: {"conv1.weight": {"conv3": 0.6, ...}, ...}."""
        return {
            one.name: dict(zip(one.operations, map(float, p), strict=True))
            for one, _, p, _ in self._parts(self._no_weights, architecture)
        }

    @property
    def _no_weights(self) -> Array:
        return np.zeros(sum(math.prod(o.shape(one.kernel)) for one in self.kernels for o in one.candidates))

    def _parts(self, weights: Array, architecture: Array) -> Iterator[tuple[MixedKernel, list[Array], Array, slice]]:
        """Each mixed layer with its weights, as views, its p and the place of its a."""
        start = first = 0
        for one in self.kernels:
            own = []
            for operation in one.candidates:
                shape = operation.shape(one.kernel)
                own.append(weights[start : start + math.prod(shape)].reshape(shape))
                start += math.prod(shape)
            at = slice(first, first + len(one.operations))
            first = at.stop
            e = np.exp(architecture[at] - architecture[at].max())
            yield one, own, e / e.sum(), at


def _by_architecture(p: Array, slopes: Array) -> Array:
    """Slopes by a from those by p = softmax(a)."""
    return np.asarray(p * (slopes - p @ slopes))
