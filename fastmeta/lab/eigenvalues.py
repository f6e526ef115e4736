"""Eigenvalues of a matrix that is known by its products: Lanczos with full reorthogonalisation.

Golub & Van Loan, Matrix Computations, section 10.1. Of a Hessian, alpha lambda_max of 2 is where gradient descent of
rate alpha stops to be stable.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta import checks, inputs
from fastmeta.floating import quiet
from fastmeta.gradients import functions as gradients
from fastmeta.gradients.steps import descend, rates_by_parameter
from fastmeta.gradients.task_sets import batch_sets
from fastmeta.networks.network import Network
from fastmeta.tasks.episode import Batch

Array = NDArray[Any]
BREAKDOWN = 1e-12  # a new vector of this relative length is rounding: the Krylov space is exhausted


@dataclass(frozen=True)
class Spectrum:
    """Ritz values of a symmetric matrix, ascending."""

    values: Array  # (k,): the outer ones are close to eigenvalues
    weights: Array  # (k,): of the spectral density seen by the first vector; they sum to 1
    residuals: Array  # (k,): there is an eigenvalue within this distance of each value

    @property
    def largest(self) -> float:
        """The largest Ritz value: at most the largest eigenvalue, and close to it."""
        return float(self.values[-1])

    @property
    def smallest(self) -> float:
        """The smallest Ritz value: at least the smallest eigenvalue, and close to it."""
        return float(self.values[0])

    def table(self) -> str:
        """One line a Ritz value."""
        rows = zip(self.values[::-1], self.weights[::-1], self.residuals[::-1], strict=True)
        return "\n".join(["Ritz value    weight  residual", *(f"{a:10.4g}  {b:8.1e}  {c:8.1e}" for a, b, c in rows)])

    __str__ = table

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Write a PNG of the weights at their values. Raises ModuleNotFoundError without Matplotlib."""
        from fastmeta.lab import pictures

        pictures.stems(os.fspath(path), self.values, self.weights, "eigenvalue", "share of the spectral density")


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
def spectrum(product: Callable[[Array], Array], size: int, steps: int = 20, seed: int = 0) -> Spectrum:
    """Ritz values of the symmetric matrix whose `product` with v (size,) is given, from a random first vector.

    steps: products, at most `size`; the extreme eigenvalues come first. Keeps `steps` vectors of `size` float64.

    >>> from fastmeta import lab
    >>> import numpy as np
    >>> matrix = np.diag([1.0, 2.0, 7.0])
    >>> lab.spectrum(lambda v: matrix @ v, 3).values.round(6).tolist()
    [1.0, 2.0, 7.0]
    """
    size = checks.integer("size", size, 1)
    steps = min(checks.integer("steps", steps, 1), size)
    first = np.random.default_rng(checks.integer("seed", seed, 0)).standard_normal((1, size))
    values, vectors, beyond = lanczos(lambda v: np.asarray(product(v[0]))[None], first, steps)
    kept = vectors[0, 0] != 0  # rows behind a breakdown have no part in the first vector
    weights, residuals = np.square(vectors[0, 0]), np.abs(beyond[0] * vectors[0, -1])
    return Spectrum(values[0][kept], weights[kept], residuals[kept])


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
    device: str = "cpu",
) -> InnerSpectrum:
    """Extreme eigenvalues of m alpha_k H_k, the support loss's Hessian scaled by its step, at each phi of each task.

    `products` Hessian-vector products a step, of all tasks at once. Rates of different parameters scale the Hessian
    from both sides, alpha^1/2 H alpha^1/2, which has the eigenvalues of alpha H. Raises ValueError where a rate is
    negative, DivergenceError where a product is not finite.
    """
    theta = inputs.parameters(net, theta)
    batch_sets(net, batch, theta.dtype)  # or raise
    rates = rates_by_parameter(net, inner_lr, checks.integer("inner_steps", inner_steps, 1), adapt, theta.dtype)
    if (rates < 0).any():
        raise ValueError("inner_lr must not be negative: a step uphill has no sharpness. Look at its absolute value.")
    steps = min(checks.integer("products", products, 1), net.parameter_count)
    data: tuple[Any, ...] = (batch.x_support, batch.y_support, batch.support_weights)
    phis, _, _ = descend(net, theta, [data] * len(rates), rates, len(batch), device)
    rng = np.random.default_rng(checks.integer("seed", seed, 0))
    largest, smallest = [], []
    for k, phi in enumerate(phis):
        root = np.sqrt(rates[min(k, len(rates) - 1)])

        def product(v: Array, phi: Array = phi, root: Array = root) -> Array:
            return np.asarray(root * gradients.hvp(net, phi, (root * v).astype(theta.dtype), *data, device=device))

        values = lanczos(product, root * rng.standard_normal(phi.shape), steps)[0]
        largest.append(values[:, -1])
        smallest.append(values[:, 0])
    return InnerSpectrum(np.stack(largest), np.stack(smallest))


def lanczos(product: Callable[[Array], Array], first: Array, steps: int) -> tuple[Array, Array, Array]:
    """T matrices at once: Ritz values (T, k) ascending, eigenvectors (T, k, k) of their tridiagonals, last beta (T,).

    `product` maps (T, n) to (T, n). Where the Krylov space is exhausted the tridiagonal goes on, apart, with its first
    entry, which lies between its extreme values.
    """
    tasks, n = first.shape
    basis = np.zeros((steps, tasks, n))
    tridiagonal = np.zeros((tasks, steps, steps))
    q = first / np.linalg.norm(first, axis=1, keepdims=True)
    beta = np.zeros(tasks)
    scale = np.zeros(tasks)
    for j in range(steps):
        basis[j] = q
        w = np.asarray(product(q), np.float64)
        exhausted = (j > 0) & (beta == 0)
        tridiagonal[:, j, j] = np.where(exhausted, tridiagonal[:, 0, 0], (q * w).sum(axis=1))
        scale = np.maximum(scale, np.linalg.norm(w, axis=1))
        for _ in range(2):  # twice is enough
            overlaps = (basis[: j + 1] * w).sum(axis=2)  # (j + 1, T)
            w = w - (overlaps[:, :, None] * basis[: j + 1]).sum(axis=0)
        beta = np.linalg.norm(w, axis=1)
        beta[beta <= BREAKDOWN * scale] = 0.0
        q = w / np.where(beta == 0, 1.0, beta)[:, None] * (beta > 0)[:, None]
        if j + 1 < steps:
            tridiagonal[:, j, j + 1] = tridiagonal[:, j + 1, j] = beta
    values, vectors = np.linalg.eigh(tridiagonal)
    return values, vectors, beta
