"""A network adapted to one task: what a learner's `adapt` gives back."""

from __future__ import annotations

import sys
import warnings

import numpy as np
from numpy.typing import ArrayLike

from fastmeta import inputs
from fastmeta.floating import quiet
from fastmeta.networks.network import Network
from fastmeta.record import Record
from fastmeta_kernels.contract import Array

FEW_TOGETHER = (
    "Batch norm is transductive: its statistics are those of the samples that are predicted together, here fewer than "
    "the support set has. Accuracy falls, to near chance for one sample alone. Predict more of them at once, or adapt "
    'with batch_norm="frozen", where the algorithm has it.'
)


class AdaptedModel(Record, eq=False):
    """`net` with the parameters `theta` (P,) that one task's support set gave it, or (T, P) for T tasks.

    Batch norm uses the statistics of the samples handed in together (transductive); with a `context` (M, ...) of
    support samples, those of the context and the one sample that is predicted (support). With (T, P) parameters
    x is (T, N, ...), context is (T, M, ...) and results have a leading T. Transductive predictions of fewer samples
    than `together`, the size of the support set, warn: a lone one is near chance. Every method raises DivergenceError
    where an output is not finite.
    """

    net: Network
    theta: Array
    classifies: bool
    device: str = "cpu"
    context: Array | None = None
    together: int = 0

    @quiet
    def outputs(self, x: ArrayLike) -> Array:
        """The network's outputs (N, O), logits where it classifies, of x (N, ...)."""
        given = inputs.array("x", x)
        self._expect_together(given)
        if self.context is None:
            return self.net.predict(self.theta, given, device=self.device)
        x, context = (inputs.samples(self.net, a, self.theta.dtype) for a in (given, self.context))
        if len(x) != len(context):
            raise ValueError(f"x has {len(x)} tasks but the model was adapted to {len(context)}.")
        thetas = np.broadcast_to(self.theta, (len(x), self.theta.shape[-1]))
        outputs = np.stack([self._one_by_one(*task) for task in zip(thetas, context, x, strict=True)])
        return outputs[0] if inputs.is_single(self.net, given) else outputs

    def _expect_together(self, x: Array) -> None:
        """Warn at the caller's line where batch norm takes its statistics from fewer samples than the support set."""
        if x.ndim > len(self.net.input_shape) and x.shape[-len(self.net.input_shape) - 1] < self.together:
            level, frame = 1, sys._getframe()
            while frame.f_back and frame.f_globals["__name__"].startswith(("fastmeta.", "numpy.")):
                level, frame = level + 1, frame.f_back
            warnings.warn(FEW_TOGETHER, stacklevel=level)

    def _one_by_one(self, theta: Array, context: Array, x: Array) -> Array:
        """Outputs (N, O) of x (N, ...), each sample in a set of its own with the context (M, ...)."""
        contexts = np.broadcast_to(context, (len(x), *context.shape))
        sets = np.concatenate([contexts, x[:, None]], axis=1)  # (N, M + 1, ...)
        return self.net.predict(theta, sets, device=self.device)[:, -1]

    def predict(self, x: ArrayLike) -> Array:
        """Labels (N,) where the task has integer labels, otherwise outputs (N, O), of x (N, ...)."""
        outputs = self.outputs(x)
        return outputs.argmax(axis=-1) if self.classifies else outputs

    @quiet
    def probabilities(self, x: ArrayLike) -> Array:
        """Class probabilities (N, O) of x (N, ...); TypeError where the task has float targets."""
        if not self.classifies:
            raise TypeError("probabilities need integer labels; this task's targets are floats. Use predict.")
        outputs = self.outputs(x)
        powers = np.exp(outputs - outputs.max(axis=-1, keepdims=True))  # a difference may overflow: its power is 0
        probabilities: Array = powers / powers.sum(axis=-1, keepdims=True)
        return probabilities


def of(net: Network, phi: Array, x_support: Array, classifies: bool, batch_norm: str, device: str) -> AdaptedModel:
    """`net` with adapted parameters phi, (P,) or (T, P), whose batch norms use the statistics that are named."""
    if batch_norm == "frozen":
        from fastmeta.networks.frozen_norms import frozen

        x = inputs.samples(net, x_support, phi.dtype, "x_support")
        x = x[0] if inputs.is_single(net, x_support) else x
        return AdaptedModel(*frozen(net, phi, x, device), classifies, device)
    return AdaptedModel(net, phi, classifies, device, x_support if batch_norm == "support" else None)
