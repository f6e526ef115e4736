"""A network adapted to one task: what a learner's `adapt` gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmeta import gradients, inputs
from fastmeta.networks import Network

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class AdaptedModel:
    """`net` with the parameters `theta` (P,) that one task's support set gave it, or (T, P) for T tasks.

    Batch norm uses the statistics of the samples handed in together (transductive). With (T, P) parameters
    x is (T, N, ...) and results have a leading T. Every method raises DivergenceError where an output is not finite.
    """

    net: Network
    theta: Array
    classifies: bool
    device: str = "cpu"

    def outputs(self, x: ArrayLike) -> Array:
        """The network's outputs (N, O), logits where it classifies, of x (N, ...)."""
        return gradients.predict(self.net, self.theta, inputs.array("x", x), device=self.device)

    def predict(self, x: ArrayLike) -> Array:
        """Labels (N,) where the task has integer labels, otherwise outputs (N, O), of x (N, ...)."""
        outputs = self.outputs(x)
        return outputs.argmax(axis=-1) if self.classifies else outputs

    def probabilities(self, x: ArrayLike) -> Array:
        """Class probabilities (N, O) of x (N, ...); TypeError where the task has float targets."""
        if not self.classifies:
            raise TypeError("probabilities need integer labels; this task's targets are floats. Use predict.")
        outputs = self.outputs(x)
        with np.errstate(over="ignore"):  # a difference may overflow, and its power is 0
            powers = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
        probabilities: Array = powers / powers.sum(axis=-1, keepdims=True)
        return probabilities
