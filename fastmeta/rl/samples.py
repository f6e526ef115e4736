"""Samples: trajectories as the policy losses take them, one row a step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from fastmeta import checks
from fastmeta.gradients import functions as gradients
from fastmeta.gradients import products
from fastmeta.gradients.products import Product
from fastmeta.networks.losses import PolicyLoss
from fastmeta.networks.network import Network
from fastmeta.rl import policies
from fastmeta.rl.trajectories import Trajectories
from fastmeta_kernels.contract import Array

PART, LEAST = 256, 64  # most and fewest samples of a part
OVERFLOW = 80.0  # l - l0 at which a ratio of float32 is near its end


@dataclass(frozen=True, eq=False)
class Samples:
    """N = R H steps of each of T tasks: a step behind a trajectory's end has the weight and the share 0.

    `weights` are advantages and `shares` ones, both times N / (steps that count), so that a mean over N is a mean over
    the steps that count: over all steps of a task, not first over those of a trajectory.
    """

    net: Network
    x: Array  # (T, N, O)
    actions: Array  # (T, N, A) or (T, N)
    weights: Array  # (T, N)
    shares: Array  # (T, N)
    logs: Array  # (T, N) log-probabilities at sampling
    device: str

    @classmethod
    def of(cls, net: Network, data: Trajectories, values: Array, dtype: Any, device: str) -> Samples:
        """The samples of trajectories whose advantages are `values` (T, R, H)."""
        tasks, steps = len(data.rewards), data.rewards[0].size
        mask = data.mask.reshape(tasks, steps)
        shares = mask * (steps / mask.sum(axis=1, keepdims=True))
        actions = data.actions.reshape(tasks, steps, *data.actions.shape[3:])
        return cls(
            net,
            np.ascontiguousarray(data.observations.reshape(tasks, steps, -1), dtype),
            actions if actions.dtype.kind in "iu" else np.ascontiguousarray(actions, dtype),
            (values.reshape(tasks, steps) * shares).astype(dtype),
            shares.astype(dtype),
            np.zeros((tasks, steps)) if data.log_probs is None else data.log_probs.reshape(tasks, steps),
            device,
        )

    def every(self, stride: int) -> Samples:
        """Each `stride`-th sample, with shares whose mean is 1 again."""
        if stride == 1:
            return self
        x, actions, weights, shares, logs = (
            np.ascontiguousarray(a[:, ::stride]) for a in (self.x, self.actions, self.weights, self.shares, self.logs)
        )
        shares = shares / np.maximum(shares.mean(axis=1, keepdims=True), np.finfo(shares.dtype).tiny)
        return Samples(self.net, x, actions, weights, shares.astype(x.dtype), logs, self.device)

    def with_weights(self, weights: Array) -> Samples:
        """The same samples with other weights (T, N)."""
        return replace(self, weights=weights)

    @cached_property
    def parts(self) -> int:
        """Parts of equal size that a task's samples are taken in: the activations of one fit a core's cache.

        A mean over samples is the mean of these parts': a kernel takes them for tasks with the same parameters.
        """
        count, steps = 1, self.x.shape[1]
        if self.device != "cuda":
            count = next(b for b in range(-(-steps // PART), steps + 1) if steps % b == 0)
        return count if steps // count >= LEAST else 1

    def gradient(self, phi: Array, surrogate: str, clip: float = 0.2) -> Array:
        """(T, P): the slope at phi (T, P) of the mean policy loss "log", "ratio" or "clip"."""
        told = self._of_loss(surrogate, clip)
        _, slopes = gradients.gradient(self.net, self._spread(phi), *self._rows(self.x, self.actions), **told)
        return self._mean(slopes)

    def hvp(self, phi: Array, v: Array, surrogate: str) -> Array:
        """(T, P): the Hessian of the policy loss at phi (T, P) times v (T, P)."""
        told = self._of_loss(surrogate)
        rows = self._rows(self.x, self.actions)
        return self._mean(gradients.hvp(self.net, self._spread(phi), self._spread(v), *rows, **told))

    def hessian(self, phi: Array, surrogate: str) -> Product:
        """v (T, P) -> `hvp` at phi (T, P), whose passes are kept."""
        told = self._of_loss(surrogate)
        return products.hessian(self.net, phi, *self._rows(self.x, self.actions), **told)

    def divergence_gradient(self, phi: Array, old: Array) -> Array:
        """(T, P): the slope at phi of the mean KL(old || new), where `old` (T, N, O) are outputs."""
        told = self._of_loss("kl")
        _, slopes = gradients.gradient(self.net, self._spread(phi), *self._rows(self.x, old), **told)
        return self._mean(slopes)

    def fisher(self, phi: Array) -> Product:
        """v (T, P) -> (T, P): the Hessian at phi of the mean KL(policy of phi || new), times v; passes are kept."""
        policy, rows = policies.kind(self.net), self._rows(self.x, self.shares)
        return products.fisher(self.net, phi, *rows, policy=policy, device=self.device)

    def outputs(self, phi: Array) -> Array:
        """(T, N, O) of the policies phi (T, P)."""
        (x,) = self._rows(self.x)
        found = self.net.predict(self._spread(phi), x, device=self.device)
        return found.reshape(*self.x.shape[:2], -1)

    def ratio_loss(self, outputs: Array) -> Array:
        """(T,) mean of -advantage * ratio by outputs (T, N, O); raises DivergenceError where a ratio overflows."""
        moved = (policies.log_probs(policies.kind(self.net), outputs, self.actions) - self.logs) * (self.shares > 0)
        if moved.max() > OVERFLOW:
            task = int(moved.max(axis=1).argmax())
            raise checks.DivergenceError(
                f"the likelihood ratio of task {task} overflows: its policy is far from the one that was sampled. "
                "Lower inner_lr or max_kl."
            )
        losses: Array = -(self.weights * np.exp(moved)).mean(axis=1)
        return losses

    def divergence(self, old: Array, new: Array) -> Array:
        """(T,) mean KL(old || new) of outputs (T, N, O)."""
        apart: Array = (policies.divergence(policies.kind(self.net), old, new) * self.shares).mean(axis=1)
        return apart

    def _of_loss(self, surrogate: str, clip: float = 0.2) -> dict[str, Any]:
        """What a policy loss takes beside parameters, observations and targets."""
        (weights,) = self._rows(self.shares if surrogate == "kl" else self.weights)
        told = {"loss": PolicyLoss(policies.kind(self.net), surrogate, clip), "weights": weights, "device": self.device}
        if surrogate in ("ratio", "clip"):
            (told["log_probs"],) = self._rows(self.logs.astype(self.x.dtype))
        return told

    def _rows(self, *arrays: Array) -> list[Array]:
        """Arrays (T, N, ..) in parts: (T B, N / B, ..)."""
        tasks, steps = self.x.shape[:2]
        return [a.reshape(tasks * self.parts, steps // self.parts, *a.shape[2:]) for a in arrays]

    def _spread(self, vectors: Array) -> Array:
        """Vectors (T, P) of tasks for their parts, (T B, P)."""
        return np.repeat(vectors, self.parts, axis=0) if self.parts > 1 else vectors

    def _mean(self, found: Array) -> Array:
        """The mean (T, P) over parts (T B, P)."""
        mean: Array = found.reshape(len(self.x), self.parts, -1).mean(axis=1) if self.parts > 1 else found
        return mean


def check_actions(net: Network, data: Trajectories) -> None:
    """Raise where trajectories cannot be those of a policy: actions or observations of another kind or width."""
    policy, wide = policies.kind(net), policies.width(net)
    if (data.actions.dtype.kind == "f") != (policy == "gaussian"):
        wanted = "floats" if policy == "gaussian" else "whole numbers"
        raise TypeError(f"actions of dtype {data.actions.dtype} must be {wanted} for a {policy} policy. Convert them.")
    if policy == "gaussian" and data.actions.shape[3] != wide:
        raise ValueError(f"actions are {data.actions.shape[3]} wide but must be {wide}, as the policy's are.")
    if policy == "categorical" and not 0 <= data.actions.min() <= data.actions.max() < wide:
        raise ValueError(f"actions must be 0 .. {wide - 1}; one is not. The policy has {wide} outputs.")
    if data.observations.shape[3:] != net.input_shape:
        raise ValueError(f"observations of width {data.observations.shape[3]} must be {net.input_shape[0]}.")
