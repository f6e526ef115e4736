"""One backward sweep of the inner loop, kept whole: every truncation, each step's share, each task's gradient.

v_S = grad Q(phi_S), v_k = v_{k+1} - H_k[m alpha_k v_{k+1}]; v_S is FOMAML's gradient, v_0 the exact one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta import checks, inputs
from fastmeta.floating import quiet
from fastmeta.gradients import functions as gradients
from fastmeta.gradients.steps import descend, rates_by_parameter
from fastmeta.gradients.task_sets import batch_sets
from fastmeta.networks.losses import Loss
from fastmeta.networks.network import Network
from fastmeta.tasks.episode import Batch

Array = NDArray[Any]
SupportSet = Callable[[int], tuple[Array, ...]]  # inner step k -> x (T, N, ...), y and perhaps weights


@dataclass(frozen=True)
class Trace:
    """What `trace` found. S inner steps, T tasks, P parameters."""

    sweep: Array  # (S + 1, T, P): sweep[m] is the gradient through the last m inner steps only
    phis: Array  # (S + 1, T, P) before each inner step, and after the last
    support_losses: Array  # (S, T) before each inner step
    query_losses: Array  # (T,) after the last
    arrays: tuple[tuple[str, slice], ...]  # names of the parameter arrays, and where they lie in P

    @property
    def tasks(self) -> Array:
        """(T, P): the exact meta-gradient of each task."""
        return np.asarray(self.sweep[-1])

    @property
    def exact(self) -> Array:
        """(P,): the exact meta-gradient, the mean over tasks."""
        return self.truncated(len(self.sweep) - 1)

    @property
    def first_order(self) -> Array:
        """(P,): FOMAML's gradient, which takes every inner gradient for a constant."""
        return self.truncated(0)

    def truncated(self, steps: int) -> Array:
        """(P,): the gradient through the last `steps` inner steps (Shaban et al. 2019, arXiv 1810.10667)."""
        steps = checks.integer("steps", steps, 0, at_most=len(self.sweep) - 1)
        return np.asarray(self.sweep[steps].mean(axis=0))

    @property
    def terms(self) -> Array:
        """(S + 1, P): FOMAML's gradient, then what each step back from the last adds; their sum is `exact`."""
        means = self.sweep.mean(axis=1)
        return np.concatenate([means[:1], np.diff(means, axis=0)])

    @property
    def snr(self) -> float:
        """|mean|^2 / sum of variances over tasks: 1 / snr is the meta-batch at which noise and signal are equal."""
        variances = self.tasks.var(axis=0, ddof=1).sum() if len(self.tasks) > 1 else np.nan
        return float(np.square(self.exact).sum() / variances)

    @property
    def task_cosines(self) -> Array:
        """(T, T): cosines between the tasks' gradients; negative where two tasks pull apart."""
        norms = np.linalg.norm(self.tasks, axis=1)
        return np.asarray(self.tasks @ self.tasks.T / np.outer(norms, norms))

    def errors(self) -> Array:
        """(S + 1,): relative error of the gradient through the last 0 .. S steps."""
        means = self.sweep.mean(axis=1)
        return np.asarray(np.linalg.norm(means - means[-1], axis=1) / np.linalg.norm(means[-1]))

    def cosines(self) -> Array:
        """(S + 1,): cosine of the gradient through the last 0 .. S steps with the exact one."""
        return np.array([cosine(mean, self.exact) for mean in self.sweep.mean(axis=1)])

    def table(self, by: str = "step") -> str:
        """Cosine and norm ratio with the exact gradient: of each truncation ("step"), or of FOMAML by "array"."""
        if checks.choice("by", by, ("step", "array")) == "array":
            width = max(5, *(len(name) for name, _ in self.arrays))
            lines = [f"{'array':{width}}  first-order cosine  norm ratio"]
            for name, place in self.arrays:
                part, whole = self.first_order[place], self.exact[place]
                lines.append(f"{name:{width}}  {cosine(part, whole):18.3f}  {_ratio(part, whole):10.3f}")
            return "\n".join(lines)
        lines = ["through the last  cosine  norm ratio  relative error"]
        for m, mean in enumerate(self.sweep.mean(axis=1)):
            error = self.errors()[m]
            lines.append(
                f"{m:10d} steps  {cosine(mean, self.exact):6.3f}  {_ratio(mean, self.exact):10.3f}  {error:14.2e}"
            )
        return "\n".join(lines)

    __str__ = table

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Write a PNG: error and cosine of every truncation. Raises ModuleNotFoundError without Matplotlib."""
        from fastmeta.lab import pictures

        steps = np.arange(len(self.sweep))
        curves = {"relative error": self.errors(), "cosine": self.cosines()}
        pictures.curves(os.fspath(path), steps, curves, "inner steps that the gradient goes back through")


@quiet
def trace(
    net: Network,
    theta: Array,
    batch: Batch,
    inner_lr: Any = 0.01,
    inner_steps: int = 1,
    adapt: str = "all",
    *,
    support: SupportSet | None = None,
    loss: Loss | None = None,
    device: str = "cpu",
) -> Trace:
    """The whole backward sweep of `meta_gradient`, of every task of `batch`, by gradients and products.

    theta (P,), inner_lr, adapt and loss as in `meta_gradient`. support(k): the support set of inner step k, where each
    has its own (mini-batches; Nichol et al. 2018, arXiv 1803.02999, section 5). Memory is 2 (S + 1) T P numbers.
    Raises DivergenceError where a loss, gradient or product is not finite.

    >>> from fastmeta import MLP, lab, meta_gradient, tasks
    >>> net, batch = MLP((1, 8, 1), "tanh"), tasks.Sinusoid().sample(4, seed=0)
    >>> theta = net.init(dtype="float64")
    >>> found = lab.trace(net, theta, batch, inner_steps=3)
    >>> bool(abs(found.exact - meta_gradient(net, theta, batch, inner_steps=3).gradient).max() < 1e-14)
    True
    """
    theta = inputs.parameters(net, theta)
    batch_sets(net, batch, theta.dtype, loss=loss)  # or raise
    rates = rates_by_parameter(net, inner_lr, inner_steps, adapt, theta.dtype)
    given: tuple[Array, ...] = (batch.x_support, batch.y_support)
    given += () if batch.support_weights is None else (batch.support_weights,)
    sets = [given if support is None else support(k) for k in range(len(rates))]
    query = (batch.x_query, batch.y_query, batch.query_weights)
    return backward(net, theta, sets, query, rates, device, loss)


def backward(
    net: Network,
    theta: Array,
    sets: Sequence[tuple[Any, ...]],
    query: tuple[Any, ...],
    rates: Array,
    device: str,
    loss: Loss | None,
) -> Trace:
    """The sweep behind inner steps of rates (S, P) on these support sets, one a step; sets are x, y, weights."""
    phis, _, support_losses = descend(net, theta, sets, rates, len(query[0]), device, loss)
    query_losses, v = gradients.gradient(net, phis[-1], *query, loss=loss, device=device)
    sweep = [v]
    for phi, data, rate in zip(phis[-2::-1], sets[::-1], rates[::-1], strict=True):
        v = v - gradients.hvp(net, phi, rate * v, *data, loss=loss, device=device)
        sweep.append(v)
    return Trace(np.stack(sweep), np.stack(phis), support_losses, query_losses, _places(net))


def cosine(a: Array, b: Array) -> float:
    """a . b / (|a| |b|); NaN where one is zero."""
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.vdot(a, b)) / norms if norms else float("nan")


def _ratio(a: Array, b: Array) -> float:
    whole = float(np.linalg.norm(b))
    return float(np.linalg.norm(a)) / whole if whole else float("nan")


def _places(net: Network) -> tuple[tuple[str, slice], ...]:
    edges = np.cumsum([0, *(int(np.prod(shape)) for shape in net.parameter_shapes.values())])
    names = net.parameter_shapes
    return tuple((name, slice(int(a), int(b))) for name, a, b in zip(names, edges, edges[1:], strict=False))
