"""The four passes through a network, recorded layer by layer, and the losses at its end."""

from __future__ import annotations

from fastmeta_kernels.cuda.layers import LAYERS
from fastmeta_kernels.cuda.layout.network import ActivationSet, Layout, TaskData, activation_set
from fastmeta_kernels.cuda.layout.places import Places, Sets, places
from fastmeta_kernels.cuda.layout.recording import NONE, Batched, Recording
from fastmeta_kernels.cuda.losses import losses


class Passes:
    """Records passes of one network over one batch of sets; `theta`, `v` and gradients are (P,) or (T, P)."""

    def __init__(self, recording: Recording, network: Layout, tasks: int, data: TaskData) -> None:
        self.recording, self.network, self.data = recording, network, data
        self.sets = Sets(recording, tasks, data.samples)
        self.from_first = range(network.first, len(network.layers))

    def forward(self, theta: Batched, run: ActivationSet) -> None:
        """Values of all positions; run.values[0] is the input."""
        for i, layer in enumerate(self.network.layers):
            LAYERS[layer.kind].forward(self.sets, layer, self._places(i, run, None, theta))

    def loss(self, run: ActivationSet, loss: Batched, derivative: bool, factor: int = 0, adds: bool = False) -> None:
        """Losses, times what is at the address `factor`, and with `derivative` the last delta."""
        losses.forward(self.recording, self.network, self.data, run, loss, derivative, factor, adds)

    def backward(self, theta: Batched, run: ActivationSet, gradient: Batched) -> None:
        """Deltas of all positions behind the first layer with parameters, and the gradient."""
        for i in reversed(self.from_first):
            layer = self.network.layers[i]
            at = self._places(i, run, None, theta, gradient=gradient)
            LAYERS[layer.kind].backward(self.sets, layer, at)

    def forward_tangent(self, theta: Batched, v: Batched, run: ActivationSet, dot: ActivationSet) -> None:
        """Tangents of the values along v."""
        for i in self.from_first:
            layer = self.network.layers[i]
            LAYERS[layer.kind].forward_tangent(self.sets, layer, self._places(i, run, dot, theta, v))

    def backward_tangent(
        self, theta: Batched, v: Batched, run: ActivationSet, dot: ActivationSet, product: Batched
    ) -> None:
        """H v: the tangents of the gradient."""
        for i in reversed(self.from_first):
            layer = self.network.layers[i]
            LAYERS[layer.kind].backward_tangent(self.sets, layer, self._places(i, run, dot, theta, v, product))

    def gradient(
        self, theta: Batched, run: ActivationSet, loss: Batched, gradient: Batched, factor: int = 0, adds: bool = False
    ) -> None:
        """Losses and gradients, times what is at the address `factor`; `adds`: to the losses that are there."""
        self.forward(theta, run)
        self.loss(run, loss, True, factor, adds)
        self.backward(theta, run, gradient)

    def hvp(
        self, theta: Batched, v: Batched, run: ActivationSet, dot: ActivationSet, product: Batched,
        slopes: Batched = NONE, adds: bool = False,
    ) -> None:  # fmt: skip
        """H v from what `gradient` left in `run`; d Q / d weights of its samples to `slopes`, if there are any."""
        self.forward_tangent(theta, v, run, dot)
        if slopes.address:
            losses.slopes(self.recording, self.network, self.data, run, dot, slopes, adds)
        losses.tangent(self.recording, self.network, self.data, run, dot)
        self.backward_tangent(theta, v, run, dot, product)

    def _places(
        self,
        i: int,
        run: ActivationSet,
        dot: ActivationSet | None,
        theta: Batched,
        v: Batched = NONE,
        gradient: Batched = NONE,
    ) -> Places:
        return places(self.network, i, self.recording.dtype.itemsize, run, dot, theta, v, gradient)


def passes_over(recording: Recording, network: Layout, tasks: int, data: TaskData) -> tuple[Passes, ActivationSet]:
    """Passes over T sets, and new arrays for what they leave."""
    run = activation_set(recording, network, tasks, data.samples, tangents=False)
    run.values[0] = data.x
    return Passes(recording, network, tasks, data), run


def tangents_over(recording: Recording, network: Layout, tasks: int, data: TaskData) -> ActivationSet:
    """New arrays for the tangents of passes over T sets."""
    return activation_set(recording, network, tasks, data.samples, tangents=True)
