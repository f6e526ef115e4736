"""How sharp the inner loop is: extreme eigenvalues of m alpha_k H_k, by Lanczos, of all tasks and steps together.

alpha lambda_max of 2 is where gradient descent of rate alpha stops to be stable.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta import checks, inputs
from fastmeta import device as devices
from fastmeta.floating import quiet
from fastmeta.gradients.steps import descend, rates_by_parameter
from fastmeta.gradients.task_sets import batch_sets, task_set
from fastmeta.lab.eigenvalues import ends
from fastmeta.networks.losses import Loss
from fastmeta.networks.network import Network
from fastmeta.tasks.episode import Batch

Array = NDArray[Any]
MOST_VALUES = 2**20  # of phis that are looked at together; some vectors of each are held


@dataclass(frozen=True)
class InnerSpectrum:
    """Sharpness of every inner step of every task: extreme eigenvalues of m alpha_k H_k."""

    largest: Array  # (S + 1, T) at phi_0 .. phi_S; phi_S with the last step's rate
    smallest: Array  # (S + 1, T)

    def table(self) -> str:
        """One line a step: medians and worst over tasks."""
        lines = ["phi  alpha lambda_max, median  worst  alpha lambda_min, median"]
        for k, (top, low) in enumerate(zip(self.largest, self.smallest, strict=True)):
            lines.append(f"{k:3d}  {np.median(top):24.3f}  {top.max():5.2f}  {np.median(low):24.3f}")
        return "\n".join(lines)

    __str__ = table

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Write a PNG: alpha lambda_max after each inner step. Raises ModuleNotFoundError without Matplotlib."""
        from fastmeta.lab import pictures

        curves = {"median over tasks": np.median(self.largest, axis=1), "largest": self.largest.max(axis=1)}
        steps = np.arange(len(self.largest))
        pictures.curves(os.fspath(path), steps, curves, "inner steps done", ylabel="alpha lambda_max", level=2.0)


@quiet
def inner_spectrum(
    net: Network,
    theta: Array,
    batch: Batch,
    inner_lr: Any = 0.01,
    inner_steps: int = 1,
    adapt: str = "all",
    *,
    products: int = 12,
    seed: int = 0,
    loss: Loss | None = None,
    device: str = "cpu",
) -> InnerSpectrum:
    """Extreme eigenvalues of m alpha_k H_k, the support loss's Hessian scaled by its step, at each phi of each task.

    `products` Hessian-vector products a step, of all tasks and of many steps at once. Rates of
    different parameters scale the Hessian from both sides, alpha^1/2 H alpha^1/2, which has the eigenvalues of alpha H.
    Other arguments as in `meta_gradient`.
    Raises ValueError where a rate is negative, DivergenceError where a product is not finite.
    """
    theta = inputs.parameters(net, theta)
    batch_sets(net, batch, theta.dtype, loss=loss)  # or raise
    rates = rates_by_parameter(net, inner_lr, checks.integer("inner_steps", inner_steps, 1), adapt, theta.dtype)
    if (rates < 0).any():
        raise ValueError("inner_lr must not be negative: a step uphill has no sharpness. Look at its absolute value.")
    data: tuple[Any, ...] = (batch.x_support, batch.y_support, batch.support_weights)
    phis = np.stack(descend(net, theta, [data] * len(rates), rates, len(batch), device, loss).phis)
    first = first_vectors(phis.shape, phis.dtype, seed)
    return sharpness(net, phis, rates, data, checks.integer("products", products, 1), first, device, loss)


def first_vectors(shape: tuple[int, ...], dtype: Any, seed: int) -> Array:
    """Where Lanczos starts at phis of this shape: random."""
    rng = np.random.default_rng(checks.integer("seed", seed, 0))
    return rng.standard_normal(shape).astype(dtype)


def sharpness(
    net: Network,
    phis: Array,
    rates: Array,
    data: tuple[Any, ...],
    products: int,
    first: Array,
    device: str,
    loss: Loss | None = None,
) -> InnerSpectrum:
    """`inner_spectrum` at phis (S + 1, T, P), of rates (S, P) at least 0, with the support sets x, y, weights."""
    roots = np.sqrt(rates)[np.minimum(np.arange(len(phis)), len(rates) - 1)]
    steps, together = min(products, net.parameter_count), max(1, MOST_VALUES // phis[0].size)
    parts = [slice(k, k + together) for k in range(0, len(phis), together)]
    found = [_ends(net, phis[k], roots[k], first[k], data, steps, device, loss) for k in parts]
    smallest, largest = found[0] if len(found) == 1 else np.concatenate(found, axis=1)
    return InnerSpectrum(largest, smallest)


def _ends(
    net: Network,
    phis: Array,
    roots: Array,
    first: Array,
    data: tuple[Any, ...],
    steps: int,
    device: str,
    loss: Loss | None,
) -> Array:
    """Extreme Ritz values (2, K, T) of root H root at phis (K, T, P), as K T tasks at once; roots (K, P)."""
    count, tasks, size = phis.shape
    x, y, w = (None if part is None else np.tile(part, (count,) + (1,) * (np.ndim(part) - 1)) for part in data)
    phi, start = phis.reshape(-1, size), first.reshape(-1, size)
    made = task_set(net, x, y, w, phi.dtype, device=device, loss=loss)
    along = devices.backend(device).products("hvp", net.table, phi, made)  # of kept passes: each is half of a call
    if (roots == roots[:, :1]).all():  # one rate of all parameters
        return ends(along, start, steps).reshape(2, count, tasks) * np.square(roots[:, :1], dtype=np.float64)
    root = np.repeat(roots, tasks, axis=0)
    return ends(lambda v: root * along(root * v), root * start, steps).reshape(2, count, tasks)
