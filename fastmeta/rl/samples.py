"""Samples: trajectories as the policy losses take them, one row a step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastmeta import checks
from fastmeta.gradients import functions as gradients
from fastmeta.gradients import outputs as curvatures
from fastmeta.networks.losses import PolicyLoss
from fastmeta.networks.network import Network
from fastmeta.rl import policies
from fastmeta.rl.trajectories import Trajectories
from fastmeta_kernels.contract import Array

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

    def gradient(self, phi: Array, surrogate: str, clip: float = 0.2) -> Array:
        """(T, P): the slope at phi (T, P) of the mean policy loss "log", "ratio" or "clip"."""
        loss, logs = self._loss(surrogate, clip)
        _, slopes = gradients.gradient(
            self.net, phi, self.x, self.actions, self.weights, loss=loss, log_probs=logs, device=self.device
        )
        return slopes

    def hvp(self, phi: Array, v: Array, surrogate: str) -> Array:
        """(T, P): the Hessian of the policy loss at phi (T, P) times v (T, P)."""
        loss, logs = self._loss(surrogate)
        return gradients.hvp(
            self.net, phi, v, self.x, self.actions, self.weights, loss=loss, log_probs=logs, device=self.device
        )

    def divergence_gradient(self, phi: Array, old: Array) -> Array:
        """(T, P): the slope at phi of the mean KL(old || new), where `old` (T, N, O) are outputs."""
        loss, _ = self._loss("kl")
        _, slopes = gradients.gradient(self.net, phi, self.x, old, self.shares, loss=loss, device=self.device)
        return slopes

    def fisher(self, phi: Array, v: Array) -> Array:
        """(T, P): the Hessian at phi of the mean KL(policy of phi || new), times v (T, P)."""
        policy = policies.kind(self.net)
        return curvatures.fisher(self.net, phi, v, self.x, self.shares, policy=policy, device=self.device)

    def outputs(self, phi: Array) -> Array:
        """(T, N, O) of the policies phi (T, P)."""
        return self.net.predict(phi, self.x, device=self.device)

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

    def _loss(self, surrogate: str, clip: float = 0.2) -> tuple[PolicyLoss, Array | None]:
        ratio = surrogate in ("ratio", "clip")
        logs = self.logs.astype(self.x.dtype) if ratio else None
        return PolicyLoss(policies.kind(self.net), surrogate, clip), logs


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
