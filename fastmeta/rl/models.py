"""A policy adapted to one task: what a learner's `adapt` gives back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fastmeta import inputs
from fastmeta.floating import quiet
from fastmeta.networks.network import Network
from fastmeta.rl import policies
from fastmeta_kernels.contract import Array


@dataclass(frozen=True, eq=False)
class PolicyModel:
    """`net` with the parameters `theta` (P,) of one task, or (T, P) of T tasks."""

    net: Network
    theta: Array

    @quiet
    def outputs(self, observations: ArrayLike) -> Array:
        """Logits, or means and log standard deviations, (N, O) of observations (N, ...), or (T, N, O)."""
        return self.net.predict(self.theta, inputs.array("observations", observations), device="numpy")

    def act(self, observations: ArrayLike, rng: np.random.Generator | None = None) -> Array:
        """Actions for observations (N, O), (O,) or (T, N, O): the likeliest, or drawn where `rng` is given.

        Floats (..., A), or whole numbers (...) of a categorical policy.
        """
        seen = inputs.array("observations", observations)
        alone = seen.ndim == 1 and self.theta.ndim == 1
        outputs, policy = self.outputs(seen[None] if alone else seen), policies.kind(self.net)
        actions = policies.likeliest(policy, outputs) if rng is None else policies.drawn(policy, outputs, rng)
        first: Array = actions[0] if alone else actions
        return first
