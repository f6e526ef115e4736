"""Passes through a network, layer by layer, as instructions: forward, backward with weight gradients, both tangents.

Parameters lie behind register P, a set behind S, a direction behind U, the tangent set behind R, a gradient behind G.
A set holds values and deltas of every position; the tangent set holds theirs at the same places. `begin` and `end` cut
a network in two: the body of ANIL and its head, which reads the body's features behind register X.
"""

from __future__ import annotations

from collections.abc import Mapping

from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.cpu.layers import LAYERS, LayerKind, activations, convolution, in_lanes, linear, narrow
from fastmeta_kernels.cpu.layers.shared import Support
from fastmeta_kernels.cpu.layers.winograd import convolution as winograd
from fastmeta_kernels.cpu.layout.instruction import MOVE, SERIAL, Code, Operand, R, S, at
from fastmeta_kernels.cpu.layout.layer import IN_LANES, NARROW, WINOGRAD, Layer
from fastmeta_kernels.cpu.layout.network import Plan
from fastmeta_kernels.cpu.layout.places import ADD, SIGNED, STEP, Places, places

MATRICES = {lt.LINEAR: linear, NARROW: narrow, IN_LANES: in_lanes}
WEIGHTS = MATRICES | {lt.CONVOLUTION: convolution, WINOGRAD: winograd}


class Passes:
    """Emits the passes over layers begin .. end of a plan; features: the register behind which layer `begin` reads.

    kinds: the functions of layers that have others than their kind.
    """

    def __init__(
        self,
        code: Code,
        plan: Plan,
        begin: int = 0,
        end: int | None = None,
        features: int = S,
        kinds: Mapping[int, LayerKind] | None = None,
    ) -> None:
        self.code, self.plan = code, plan
        self.kinds = kinds or {}
        self.begin, self.features = begin, features
        self.end = len(plan.layers) if end is None else end
        self.first = max(begin, plan.first)  # neither dx nor x_dot there

    def forward(self) -> None:
        """Values of every position, outputs dense."""
        for l in range(self.begin, self.end):
            layer, at = self._layer(l)
            self._kind(l).forward(self.code, layer, at)
        self._outputs(S)

    def transpose(self) -> None:
        """The transposed weights that `backward` reads, where it does not write them."""
        for l in range(self.first + 1, self.end):
            layer, at = self._layer(l)
            if layer.kind in WEIGHTS:
                WEIGHTS[layer.kind].transpose_weight(self.code, layer, at.weight, at.transposed)

    def backward(self, weights: int | None = 0, transpose: bool = True) -> None:
        """Deltas of every position behind the first layer with parameters, and G = d L / d parameters, packed.

        weights: 0; ADDED, for G += sign * (...); None, for deltas only.
        """
        self._output_deltas(S)
        for l in range(self.end - 1, self.first - 1, -1):
            layer, at = self._layer(l)
            self._mask_delta(l, at, at.dy)
            into = None if weights is None else at.into(layer, weights)
            self._kind(l).backward(self.code, layer, at, into, transpose)

    def forward_tangent(self) -> None:
        """y_dot of every position in the direction U of the parameters."""
        for l in range(self.first, self.end):
            layer, at = self._layer(l)
            self._kind(l).forward_tangent(self.code, layer, at)
            if not LAYERS[layer.kind].MASKS_INPUTS:
                self._mask(layer, at, at.y_dot)
        self._outputs(R)

    def backward_tangent(self, flags: int = 0) -> None:
        """Tangents of the deltas of every position in the direction U, and G = H U, packed.

        flags: ADDED, for G += sign * H U; with RATED, for linear layers, times the rate.
        """
        self._output_deltas(R)
        for l in range(self.end - 1, self.first - 1, -1):
            layer, at = self._layer(l)
            self._mask_delta(l, at, at.dy_dot)
            self._kind(l).backward_tangent(self.code, layer, at, at.into(layer, flags))

    def features_tangent(self, to: Operand, add: bool) -> None:
        """to = sign * dx_dot (or +=) of layer `begin`, a linear one: what a direction of its weight does to dx."""
        layer, at = self._layer(self.begin)
        kind = MATRICES[layer.kind]
        kind.transpose_weight(self.code, layer, at.weight, at.transposed)
        kind.input_tangent(self.code, layer, at, to, SIGNED | (ADD if add else 0))

    def step(self, to: int) -> None:
        """Parameters behind `to` = P + sign * rate * d L / d parameters, after `backward`; of linear layers only."""
        for l in range(self.first, self.end):
            layer, at = self._layer(l)
            kind, into = self.kinds.get(l), at.into(layer, STEP, to)
            if isinstance(kind, Support):
                kind.step(self.code, layer, at, into)
            elif layer.kind in MATRICES:
                MATRICES[layer.kind].weight_gradient(self.code, layer, at, into)

    def _kind(self, l: int) -> LayerKind:
        return self.kinds.get(l) or LAYERS[self.plan.layers[l].kind]

    def _layer(self, l: int) -> tuple[Layer, Places]:
        """A layer and its places; it masks what it passes back where a ReLU was taken over by the layer before it."""
        layer = self.plan.layers[l]
        masks = l > self.begin and LAYERS[layer.kind].MASKS_INPUTS and self._rectified(self.plan.layers[l - 1])
        return layer, places(layer, l > self.first, masks, self.features if l == self.begin else S)

    def _rectified(self, layer: Layer) -> bool:
        return layer.relu and not LAYERS[layer.kind].RECTIFIES

    def _mask(self, layer: Layer, at: Places, value: Operand) -> None:
        """The derivative of the ReLU that a layer took over."""
        if self._rectified(layer):
            activations.mask(self.code, layer, at.y, value)

    def _mask_delta(self, l: int, at: Places, delta: Operand) -> None:
        """The same for a delta or its tangent, where the layer behind has not done it."""
        if l + 1 == self.end or not LAYERS[self.plan.layers[l + 1].kind].MASKS_INPUTS:
            self._mask(self.plan.layers[l], at, delta)

    def _outputs(self, register: int) -> None:
        self._move(register, self.plan.layers[-1].y, self.plan.outputs, to_dense=True)

    def _output_deltas(self, register: int) -> None:
        self._move(register, self.plan.layers[-1].dy, self.plan.output_deltas, to_dense=False)

    def _move(self, register: int, position: int, dense: int, to_dense: bool) -> None:
        """Between the last position and dense outputs, where these are two places."""
        if self.end == len(self.plan.layers) and dense != position:
            places = {"position": at(register, position), "dense": at(register, dense)}
            self.code.add(MOVE, SERIAL, self.plan.layers[-1], **places, to_dense=to_dense)
