"""Adaptation: inner steps, each on trajectories of its own, and the products with their Jacobian."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from fastmeta.gradients.products import Product
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
    hessians: tuple[Product, ...] = ()  # S of them, once `kept` was called

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
        for k, rate in enumerate(self.rates):
            u = u - rate * self._hvp(k, u)
        return u

    def pull(self, v: Array, added: list[Array] | None = None) -> tuple[Array, Array]:
        """J^T v (T, P) of v (T, P), and the slopes by the rates (T, S, P); `added` (T, P) join v before each step.

        v_k = v_k+1 - H_k (rate_k v_k+1) + added_k; the slope by rate_k is -(grad L_k) v_k+1, parameter by parameter.
        """
        by_rate = np.zeros((len(v), len(self.sets), v.shape[1]))
        for k in reversed(range(len(self.sets))):
            by_rate[:, k] = -self.slopes[k] * v
            if self.order == 2:
                v = v - self._hvp(k, self.rates[k] * v)
            if added is not None:
                v = v + added[k]
        return v, by_rate

    def every(self, stride: int) -> Adaptation:
        """The same steps with each `stride`-th sample in the products; the parameters stay."""
        sets = tuple(samples.every(stride) for samples in self.sets)
        return Adaptation(sets, self.rates, self.surrogate, self.order, self.phis, self.slopes)

    def kept(self) -> Adaptation:
        """The same, for many `push` and `pull`: passes at each phi_k are kept."""
        exact = zip(self.sets, self.phis, strict=False) if self.order == 2 else ()
        return replace(self, hessians=tuple(samples.hessian(phi, self.surrogate) for samples, phi in exact))

    def _hvp(self, k: int, v: Array) -> Array:
        """H_k v (T, P)."""
        phi = self.phis[k]
        v = np.ascontiguousarray(v, phi.dtype)
        return self.hessians[k](v) if self.hessians else self.sets[k].hvp(phi, v, self.surrogate)


def adapted(net: Network, adapts: str) -> Array:
    """(P,): 1 where a parameter is adapted. The head is the last linear layer and what is appended behind it."""
    moves = np.ones(net.parameter_count)
    if adapts != "all":
        begin, _ = net.head
        moves[slice(0, begin) if adapts == "head" else slice(begin, None)] = 0
    return moves
