"""The query loss after adaptation on a plane through theta (Li et al. 2018, arXiv 1712.09913, without the filters)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmeta import checks, inputs
from fastmeta.checks import DivergenceError
from fastmeta.floating import quiet
from fastmeta.gradients import functions as gradients
from fastmeta.networks.losses import Loss
from fastmeta.networks.network import Network
from fastmeta.tasks.episode import Batch

Array = NDArray[Any]


@dataclass(frozen=True)
class Landscape:
    """Mean query losses at theta + a u + b v."""

    a: Array  # (A,)
    b: Array  # (B,)
    losses: Array  # (A, B); infinite where adaptation diverged

    def table(self) -> str:
        """Rows a, columns b."""
        lines = ["       a \\ b  " + "  ".join(f"{b:9.3g}" for b in self.b)]
        for a, row in zip(self.a, self.losses, strict=True):
            lines.append(f"{a:12.3g}  " + "  ".join(f"{loss:9.4g}" for loss in row))
        return "\n".join(lines)

    __str__ = table

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Write a PNG: contours, or a curve along one direction. Raises ModuleNotFoundError without Matplotlib."""
        from fastmeta.lab import pictures

        finite = np.where(np.isfinite(self.losses), self.losses, np.nan)
        pictures.surface(os.fspath(path), self.a, self.b, finite, "a", "b", "query loss")


@quiet
def landscape(
    net: Network,
    theta: Array,
    batch: Batch,
    u: Array,
    v: Array | None = None,
    a: ArrayLike = (-1.0, -0.5, 0.0, 0.5, 1.0),
    b: ArrayLike | None = None,
    inner_lr: Any = 0.01,
    inner_steps: int = 1,
    adapt: str = "all",
    *,
    loss: Loss | None = None,
    device: str = "cpu",
) -> Landscape:
    """Mean query loss after `inner_steps` from theta + a_i u + b_j v, for each pair (i, j).

    theta, u and v (P,); a (A,), b (B,) by default a. Without v only along u, for instance a meta-gradient.
    inner_steps=0 is the query loss itself. Other arguments as in `meta_gradient`.
    """
    theta = inputs.parameters(net, theta)
    if v is None and b is not None:
        raise ValueError("b must come with v: along u alone there is no second axis. Give v, or leave b out.")
    along = np.atleast_1d(checks.array("a", a).astype(np.float64))
    across = (
        np.zeros(1) if v is None else along if b is None else np.atleast_1d(checks.array("b", b).astype(np.float64))
    )
    u = inputs.direction(net, u, None, theta.dtype)
    v = np.zeros_like(u) if v is None else inputs.direction(net, v, None, theta.dtype)
    losses = np.full((len(along), len(across)), np.inf)
    support = (batch.x_support, batch.y_support)
    query = (batch.x_query, batch.y_query, batch.query_weights)
    for i, j in np.ndindex(losses.shape):
        start = theta + (along[i] * u + across[j] * v).astype(theta.dtype)
        try:
            phi = gradients.adapt(
                net, start, *support, inner_lr, inner_steps, adapt, batch.support_weights, loss=loss, device=device
            )
            losses[i, j] = gradients.loss(net, phi, *query, loss=loss, device=device).mean()
        except DivergenceError:
            continue
    return Landscape(along, across, losses)
