"""Adaptation: inner steps, each on trajectories of its own, and the products with their Jacobian."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fastmeta.networks.network import Network
from fastmeta.rl.samples import Samples
from fastmeta_kernels.contract import Array


@dataclass(frozen=True, eq=False)
class Adaptation:
    """phi_k+1 = phi_k - rate_k grad L_k(phi_k) from theta (P,), where L_k is the `surrogate` loss on set k.

    At sampling the surrogates "log" and "ratio" take the same step; they differ in the Hessian, and so in what
    `push` and `pull` say: "ratio" keeps the term by which theta chooses what is sampled (Rothfuss et al. 2019, arXiv
    1810.06784, "LVC"). rates (S, P): 0 where a parameter is not adapted. order=1: the Jacobian counts as the identity.
    """

    sets: tuple[Samples, ...]  # S of them
    rates: Array  # (S, P)
    surrogate: str = "ratio"
    order: int = 2
    phis: list[Array] = field(default_factory=list)  # S + 1 of (T, P), and
    slopes: list[Array] = field(default_factory=list)  # S of (T, P), once `run` was called

    def run(self, theta: Array) -> Adaptation:
        """The same inner steps, taken from theta (P,)."""
        tasks = len(self.sets[0].x) if self.sets else len(self.phis[0])
        phis, slopes = [np.repeat(theta[None], tasks, axis=0)], []
        for samples, rate in zip(self.sets, self.rates, strict=True):
            slopes.append(samples.gradient(phis[-1], self.surrogate))
            phis.append((phis[-1] - rate * slopes[-1]).astype(theta.dtype))
        return Adaptation(self.sets, self.rates, self.surrogate, self.order, phis, slopes)

    def push(self, u: Array) -> Array:
        """J u (T, P) of u (T, P): u_k+1 = u_k - rate_k H_k u_k."""
        if self.order == 1:
            return u
        for samples, rate, phi in zip(self.sets, self.rates, self.phis, strict=False):
            u = u - rate * samples.hvp(phi, _as(u, phi), self.surrogate)
        return u

    def pull(self, v: Array, added: list[Array] | None = None) -> tuple[Array, Array]:
        """J^T v (T, P) of v (T, P), and the slopes by the rates (T, S, P); `added` (T, P) join v before each step.

        v_k = v_k+1 - H_k (rate_k v_k+1) + added_k; the slope by rate_k is -(grad L_k) v_k+1, parameter by parameter.
        """
        by_rate = np.zeros((len(v), len(self.sets), v.shape[1]))
        for k in reversed(range(len(self.sets))):
            by_rate[:, k] = -self.slopes[k] * v
            if self.order == 2:
                scaled = _as(self.rates[k] * v, self.phis[k])
                v = v - self.sets[k].hvp(self.phis[k], scaled, self.surrogate)
            if added is not None:
                v = v + added[k]
        return v, by_rate

    def every(self, stride: int) -> Adaptation:
        """The same steps with each `stride`-th sample in the products; the parameters stay."""
        sets = tuple(samples.every(stride) for samples in self.sets)
        return Adaptation(sets, self.rates, self.surrogate, self.order, self.phis, self.slopes)


def adapted(net: Network, adapts: str) -> Array:
    """(P,): 1 where a parameter is adapted. The head is the last linear layer and what is appended behind it."""
    moves = np.ones(net.parameter_count)
    if adapts != "all":
        begin, _ = net.head
        moves[slice(0, begin) if adapts == "head" else slice(begin, None)] = 0
    return moves


def _as(v: Array, phi: Array) -> Array:
    return np.ascontiguousarray(v, phi.dtype)
