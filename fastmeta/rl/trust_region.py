"""Trust-region updates: the step that lowers the loss most within a mean divergence of the policies (TRPO)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from fastmeta import checks
from fastmeta.gradients.conjugate_gradients import conjugate_gradients
from fastmeta.gradients.products import Product
from fastmeta.learning.optimizers import Optimizer
from fastmeta.learning.states import State
from fastmeta.rl.adaptation import Adaptation
from fastmeta.rl.samples import Samples
from fastmeta_kernels.contract import Array

TINY = float(np.finfo(np.float64).tiny)
Trial = Callable[[Array], tuple[float, float]]  # theta (P,) -> loss, mean KL(old || new)


@dataclass(frozen=True)
class TrustRegion(Optimizer):
    """x = (K + damping)^-1 g by `cg_steps` conjugate gradients; theta moves by -x sqrt(2 max_kl / x^T (K + damping) x).

    K is the Hessian of the mean KL(old || new) of the adapted policies by theta. The step is multiplied by `shrink`
    up to `backtracks` - 1 times, until the loss is lower than before and the mean KL below `max_kl`; otherwise theta
    stays. curvature_share: the share of the samples that products with K use, 1 / a whole number. learning_rate:
    what the first trial is multiplied by. Source: Schulman et al. 2015, arXiv 1502.05477, appendix C.
    """

    learning_rate: float = 1.0
    max_kl: float = 0.01
    cg_steps: int = 10
    damping: float = 1e-5
    backtracks: int = 15
    shrink: float = 0.8
    curvature_share: float = 1.0

    def __post_init__(self) -> None:
        for name in ("learning_rate", "max_kl", "damping", "curvature_share"):
            checks.settle(self, **{name: checks.positive(name, getattr(self, name))})
        for name in ("cg_steps", "backtracks"):
            checks.settle(self, **{name: checks.integer(name, getattr(self, name), 1)})
        checks.settle(self, shrink=checks.fraction("shrink", self.shrink))
        if self.curvature_share > 1 or abs(1 / self.curvature_share - self.stride) > 1e-6:
            raise ValueError(
                f"curvature_share={self.curvature_share} must be 1 / a whole number. Use 1, 0.5 or 0.25, for example."
            )

    @property
    def stride(self) -> int:
        """Each which sample products use."""
        return round(1 / self.curvature_share)

    def init(self, theta: Array) -> State:
        return State(0, ())

    def update(self, theta: Array, gradient: Array, state: State) -> tuple[Array, State]:
        """Refused: a trust region needs policies."""
        raise TypeError(
            "optimizer=TrustRegion(...) must be of a learner whose network is a policy: its step needs the policies' "
            "divergence. Use fm.rl.MAML, or fm.Adam(1e-3) here."
        )

    def _move(self, theta: Array, gradient: Array, state: State, rate: float) -> tuple[Array, tuple[Array, ...]]:
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return {"optimizer": type(self).__name__} | {f.name: getattr(self, f.name) for f in fields(self)}


class Step(NamedTuple):
    """What one update did; `accepted` is the shrink of the step that was taken, 0 where theta stays."""

    theta: Array
    kl: float
    accepted: float


def curvature(adaptation: Adaptation, query: Samples) -> Product:
    """v (P,) -> K v (P,): the mean over tasks of J^T F J v, exact at the theta (P,) of `adaptation`.

    Where the policies are the old ones the slope of the KL is 0: no third derivative survives, and its Hessian by theta
    is that by phi, F, between the Jacobian of the inner steps and its transpose. Passes are made once for all v.
    """
    phi, steps = adaptation.phis[-1], adaptation.kept()
    fisher = query.fisher(phi)

    def product(v: Array) -> Array:
        u = np.ascontiguousarray(np.broadcast_to(v, phi.shape), phi.dtype)
        back, _ = steps.pull(fisher(np.ascontiguousarray(steps.push(u), phi.dtype)))
        mean: Array = back.mean(axis=0, dtype=np.float64)
        return mean

    return product


def step(
    region: TrustRegion,
    adaptation: Adaptation,
    query: Samples,
    theta: Array,
    gradient: Array,
    before: float,
    trial: Trial,
) -> Step:
    """theta (P,) after one trust-region update down `gradient` (P,); `before` is the loss there, which trials lower."""
    hessian = curvature(adaptation.every(region.stride), query.every(region.stride))
    along, product_along = gradient, gradient  # the latest direction p and K p

    def product(v: Array) -> Array:
        nonlocal along, product_along
        along, product_along = v[0], hessian(v[0]) + region.damping * v[0]
        return np.asarray(product_along)[None]

    g = gradient.astype(np.float64)
    x, product_x = np.zeros_like(g), np.zeros_like(g)
    for solution in conjugate_gradients(product, g[None], region.cg_steps):
        product_x += (solution[0] - x) @ along / max(along @ along, TINY) * product_along  # x moved along p
        x = solution[0]
    span = float(x @ product_x)
    if not np.isfinite(span) or span <= 0:
        return Step(theta, 0.0, 0.0)
    full = x * np.sqrt(2 * region.max_kl / span)
    share = region.learning_rate
    for _ in range(region.backtracks):
        moved = (theta - share * full).astype(theta.dtype)
        try:
            loss, kl = trial(moved)
        except checks.DivergenceError:
            loss, kl = np.inf, np.inf
        if loss < before and kl < region.max_kl:
            return Step(moved, kl, share)
        share *= region.shrink
    return Step(theta, 0.0, 0.0)
