"""The four passes through a network, recorded layer by layer, and the losses at its end."""

from __future__ import annotations

from typing import Any

from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.cuda.layers import products
from fastmeta_kernels.cuda.layers.products import FULL, Pair
from fastmeta_kernels.cuda.layout.network import NORMS, ActivationSet, Layer, Layout, TaskData, activation_set
from fastmeta_kernels.cuda.layout.recording import NONE, Array, Recording, struct

NORM_WIDTH, NORM_SUMS = 16, 5  # as in batch_norm.cuh
NORM_WHOLE, NORM_SUMS_ONLY, NORM_APPLY = range(3)
NORM_CHUNK = 512  # fewest rows of a chunk


class Passes:
    """Records passes of one network over one batch of sets; `theta`, `v` and gradients are (P,) or (T, P)."""

    def __init__(self, recording: Recording, network: Layout, tasks: int, data: TaskData) -> None:
        self.recording, self.network, self.tasks, self.data = recording, network, tasks, data
        self.itemsize = recording.dtype.itemsize

    def forward(self, theta: Array, run: ActivationSet) -> None:
        """Values of all positions; run.values[0] is the input."""
        for i, layer in enumerate(self.network.layers):
            x, y = run.values[i : i + 2]
            weight, bias = self._parameters(layer, theta)
            if layer.kind in (lt.LINEAR, lt.CONVOLUTION):
                pairs = [Pair(x, weight, NONE, 1)]
                products.convolve(self.recording, layer, self.tasks, self.data.samples, pairs, y)
            elif layer.kind in NORMS:
                members = {"x": x, "scale": weight, "shift": bias, "result": y, "rectified": layer.relu}
                self._norm("norm_forward", layer, statistics=run.statistics[i], **members)
            else:
                self._elementwise(_FORWARD[layer.kind], layer, x=x, result=y)

    def loss(self, run: ActivationSet, loss: Array, derivative: bool, factor: int = 0, adds: bool = False) -> None:
        """Losses, times what is at the address `factor`, and with `derivative` the last delta."""
        dz = run.deltas[-1] if derivative else NONE
        self._loss("", z=run.values[-1], loss=loss, dz=dz, factor=factor, adds=adds)

    def backward(self, theta: Array, run: ActivationSet, gradient: Array) -> None:
        """Deltas of all positions behind the first layer with parameters, and the gradient."""
        for i in range(len(self.network.layers) - 1, self.network.first - 1, -1):
            layer, x, dy = self.network.layers[i], run.values[i], run.deltas[i + 1]
            dx, mask = self._dx(i, layer, run, run)
            weight, _ = self._parameters(layer, theta)
            dweight, dbias = self._parameters(layer, gradient)
            if layer.kind in (lt.LINEAR, lt.CONVOLUTION):
                inputs, weights = [Pair(dy=dy, weight=weight)], [Pair(x=x, dy=dy, ones=1)]
                self._product_backward(layer, inputs, weights, dx, dweight, mask)
            elif layer.kind in NORMS:
                members = {"x": x, "dy": dy, "scale": weight, "result": dx, "mask": mask}
                self._norm(
                    "norm_backward", layer, statistics=run.statistics[i], dscale=dweight, dshift=dbias, **members
                )
            else:
                self._elementwise(_BACKWARD[layer.kind], layer, x=x, dy=dy, result=dx, mask=mask)

    def forward_tangent(self, theta: Array, v: Array, run: ActivationSet, dot: ActivationSet) -> None:
        """Tangents of the values along v."""
        for i in range(self.network.first, len(self.network.layers)):
            layer, (x, y), (x_dot, y_dot) = self.network.layers[i], run.values[i : i + 2], dot.values[i : i + 2]
            mask = y if layer.relu else NONE
            weight, _ = self._parameters(layer, theta)
            weight_dot, bias_dot = self._parameters(layer, v)
            if layer.kind in (lt.LINEAR, lt.CONVOLUTION):
                pairs = [Pair(x, weight_dot, NONE, 1)]
                if x_dot != NONE:
                    pairs.append(Pair(x_dot, weight, NONE, 0))
                products.convolve(self.recording, layer, self.tasks, self.data.samples, pairs, y_dot, mask)
            elif layer.kind in NORMS:
                members = {"scale": weight, "scale_dot": weight_dot, "shift_dot": bias_dot, "result": y_dot}
                statistics = {"statistics": run.statistics[i], "tangents": dot.statistics[i]}
                self._norm("norm_forward_tangent", layer, x=x, x_dot=x_dot, mask=mask, **members, **statistics)
            elif layer.kind in _ACTIVATIONS:
                self._elementwise(_BACKWARD[layer.kind], layer, x=x, dy=x_dot, result=y_dot)
            elif layer.kind == lt.MAX_POOL:
                self._elementwise("max_pool", layer, x=x, x_dot=x_dot, result=y_dot)
            else:
                self._elementwise("mean_pool", layer, x=x_dot, result=y_dot)

    def loss_tangent(self, run: ActivationSet, dot: ActivationSet) -> None:
        """The tangent of the last delta."""
        self._loss("_tangent", z=run.values[-1], z_dot=dot.values[-1], dz=dot.deltas[-1])

    def backward_tangent(self, theta: Array, v: Array, run: ActivationSet, dot: ActivationSet, product: Array) -> None:
        """H v: the tangents of the gradient."""
        for i in range(len(self.network.layers) - 1, self.network.first - 1, -1):
            layer, x, x_dot = self.network.layers[i], run.values[i], dot.values[i]
            dy, dy_dot = run.deltas[i + 1], dot.deltas[i + 1]
            dx_dot, mask = self._dx(i, layer, run, dot)
            (weight, _), (weight_dot, _) = self._parameters(layer, theta), self._parameters(layer, v)
            dweight, dbias = self._parameters(layer, product)
            if layer.kind in (lt.LINEAR, lt.CONVOLUTION):
                inputs = [Pair(dy=dy_dot, weight=weight), Pair(dy=dy, weight=weight_dot)]
                weights = [Pair(x=x, dy=dy_dot, ones=1)]
                if x_dot != NONE:
                    weights.append(Pair(x=x_dot, dy=dy, ones=0))
                self._product_backward(layer, inputs, weights, dx_dot, dweight, mask)
            elif layer.kind in NORMS:
                members = {"x": x, "x_dot": x_dot, "dy": dy, "dy_dot": dy_dot, "scale": weight, "scale_dot": weight_dot}
                results = {"result": dx_dot, "dscale": dweight, "dshift": dbias, "mask": mask}
                statistics = {"statistics": run.statistics[i], "tangents": dot.statistics[i]}
                self._norm("norm_backward_tangent", layer, **members, **results, **statistics)
            elif layer.kind in _ACTIVATIONS:
                members = {"x": x, "x_dot": x_dot, "dy": dy, "dy_dot": dy_dot, "result": dx_dot, "mask": mask}
                kernel = f"activate_backward_tangent<T, {_ACTIVATIONS[layer.kind]}>"
                self._elementwise(kernel, layer, **members)
            else:
                self._elementwise(_BACKWARD[layer.kind], layer, x=x, dy=dy_dot, result=dx_dot, mask=mask)

    def gradient(
        self, theta: Array, run: ActivationSet, loss: Array, gradient: Array, factor: int = 0, adds: bool = False
    ) -> None:
        """Losses and gradients, times what is at the address `factor`; `adds`: to the losses that are there."""
        self.forward(theta, run)
        self.loss(run, loss, True, factor, adds)
        self.backward(theta, run, gradient)

    def hvp(self, theta: Array, v: Array, run: ActivationSet, dot: ActivationSet, product: Array) -> None:
        """H v from what `gradient` left in `run`."""
        self.forward_tangent(theta, v, run, dot)
        self.loss_tangent(run, dot)
        self.backward_tangent(theta, v, run, dot, product)

    def _parameters(self, layer: Layer, theta: Array) -> tuple[Array, Array]:
        places = (layer.weight, layer.bias)
        weight, bias = (theta.at(place, self.itemsize) if place >= 0 else NONE for place in places)
        return weight, bias

    def _dx(self, i: int, layer: Layer, run: ActivationSet, to: ActivationSet) -> tuple[Array, Array]:
        """Where layer i's dx goes, NONE at the first layer with parameters, and what it is masked by."""
        dx = to.deltas[i] if i > self.network.first else NONE
        return dx, run.values[i] if layer.rectified else NONE

    def _product_backward(
        self, layer: Layer, inputs: list[Pair], weights: list[Pair], dx: Array, dweight: Array, mask: Array
    ) -> None:
        products.convolve_backward(
            self.recording, layer, self.tasks, self.data.samples, inputs, weights, dx, dweight, mask
        )

    def _norm(self, kernel: str, layer: Layer, **members: Any) -> None:
        rows, groups = self.data.samples * layer.h * layer.w, -(-layer.c // NORM_WIDTH)
        chunks = max(1, min(-(-FULL // (self.tasks * groups)), rows // NORM_CHUNK))
        sizes = {"rows": rows, "channels": layer.c, "groups": groups, "chunks": chunks}
        sizes["fixed"] = layer.kind == lt.AFFINE
        job = struct("BatchNorm", epsilon=lt.BATCH_NORM_EPSILON, **sizes, **members)
        if chunks > 1:
            job["partial"] = self.recording.scratch(chunks * NORM_SUMS * layer.c)
        for phase in (NORM_SUMS_ONLY, NORM_APPLY) if chunks > 1 else (NORM_WHOLE,):
            job = job.copy()
            job["phase"] = phase
            self.recording.job(f"{kernel}<T>", groups * chunks, job)

    def _elementwise(self, kernel: str, layer: Layer, **members: Any) -> None:
        rows, columns = layer.h, layer.w
        if kernel == "max_pool":
            rows, columns = layer.out_h, layer.out_w
        elif kernel == "max_pool_backward":
            rows, columns = -(-layer.h // layer.kernel), -(-layer.w // layer.kernel)
        elif kernel == "mean_pool":
            rows = columns = 1
        blocks = -(-self.data.samples * rows * columns * layer.c // 256)
        sizes = {"h": layer.h, "w": layer.w, "c": layer.c, "out_h": layer.out_h, "out_w": layer.out_w}
        job = struct("Elementwise", samples=self.data.samples, kernel=layer.kernel, **sizes, **members)
        self.recording.job(f"{kernel}<T>" if "<" not in kernel else kernel, blocks, job)

    def _loss(self, suffix: str, **members: Any) -> None:
        data = self.data
        assert data.loss is not None
        per_output = 1 if data.loss.kind in lt.LABELLED else self.network.outputs
        job = struct(
            "Loss",
            labels=data.labels,
            targets=data.targets,
            weights=data.weights,
            samples=data.samples,
            outputs=self.network.outputs,
            share=1 / (data.samples * per_output),
            **members,
        )
        self.recording.job(f"{_LOSSES[data.loss.kind]}{suffix}<T>", 1, job)


def passes_over(recording: Recording, network: Layout, tasks: int, data: TaskData) -> tuple[Passes, ActivationSet]:
    """Passes over T sets, and new arrays for what they leave."""
    run = activation_set(recording, network, tasks, data.samples, tangents=False)
    run.values[0] = data.x
    return Passes(recording, network, tasks, data), run


def tangents_over(recording: Recording, network: Layout, tasks: int, data: TaskData) -> ActivationSet:
    """New arrays for the tangents of passes over T sets."""
    return activation_set(recording, network, tasks, data.samples, tangents=True)


_LOSSES = {lt.SQUARED_ERROR: "squared_error", lt.CROSS_ENTROPY: "cross_entropy"}
_ACTIVATIONS = {lt.RELU: "ACTIVATION_RELU", lt.TANH: "ACTIVATION_TANH", lt.SOFTPLUS: "ACTIVATION_SOFTPLUS"}
_FORWARD = {kind: f"activate<T, {name}>" for kind, name in _ACTIVATIONS.items()}
_FORWARD |= {lt.MAX_POOL: "max_pool", lt.GLOBAL_MEAN_POOL: "mean_pool"}
_BACKWARD = {kind: f"activate_slope<T, {name}>" for kind, name in _ACTIVATIONS.items()}
_BACKWARD |= {lt.MAX_POOL: "max_pool_backward", lt.GLOBAL_MEAN_POOL: "mean_pool_backward"}
