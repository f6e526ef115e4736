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
MOST_VALUES = 2**23  # of the Lanczos vectors of several phis together, 64 MiB


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

    `products` Hessian-vector products a step, of all tasks and of as many steps as 64 MiB hold at once. Rates of
    different parameters scale the Hessian from both sides, alpha^1/2 H alpha^1/2, which has the eigenvalues of alpha H.
    Raises ValueError where a rate is negative, DivergenceError where a product is not finite.
    """
    theta = inputs.parameters(net, theta)
    batch_sets(net, batch, theta.dtype)  # or raise
    rates = rates_by_parameter(net, inner_lr, checks.integer("inner_steps", inner_steps, 1), adapt, theta.dtype)
    if (rates < 0).any():
        raise ValueError("inner_lr must not be negative: a step uphill has no sharpness. Look at its absolute value.")
    data: tuple[Any, ...] = (batch.x_support, batch.y_support, batch.support_weights)
    phis = np.stack(descend(net, theta, [data] * len(rates), rates, len(batch), device).phis)
    return sharpness(net, phis, rates, data, checks.integer("products", products, 1), seed, device)


def sharpness(
    net: Network, phis: Array, rates: Array, data: tuple[Any, ...], products: int, seed: int, device: str
) -> InnerSpectrum:
    """`inner_spectrum` at phis (S + 1, T, P), of rates (S, P) at least 0, with the support sets x, y, weights."""
    first = np.random.default_rng(checks.integer("seed", seed, 0)).standard_normal(phis.shape).astype(phis.dtype)
    roots = np.sqrt(rates)[np.minimum(np.arange(len(phis)), len(rates) - 1)]
    steps = min(products, net.parameter_count)
    together = max(1, MOST_VALUES // (steps * phis[0].size))  # phis whose Lanczos vectors are kept at once
    parts = [slice(k, k + together) for k in range(0, len(phis), together)]
    values = np.concatenate([_ritz(net, phis[k], roots[k], first[k], data, steps, device) for k in parts])
    return InnerSpectrum(values[..., -1], values[..., 0])


def _ritz(
    net: Network, phis: Array, roots: Array, first: Array, data: tuple[Any, ...], steps: int, device: str
) -> Array:
    """Ritz values (K, T, steps) of root H root at phis (K, T, P), as K T tasks at once; roots (K, P)."""
    count, tasks, size = phis.shape
    sets: list[Any] = [None if part is None else np.tile(part, (count,) + (1,) * (np.ndim(part) - 1)) for part in data]
    phi, root = phis.reshape(-1, size), np.repeat(roots, tasks, axis=0)

    def product(v: Array) -> Array:
        return np.asarray(root * gradients.hvp(net, phi, root * v, *sets, device=device))

    return lanczos(product, root * first.reshape(-1, size), steps)[0].reshape(count, tasks, steps)


def lanczos(product: Callable[[Array], Array], first: Array, steps: int) -> tuple[Array, Array, Array]:
    """T matrices at once: Ritz values (T, k) ascending, eigenvectors (T, k, k) of their tridiagonals, last beta (T,).

    `product` maps (T, n) to (T, n) in the float dtype of `first`. Where the Krylov space is exhausted the tridiagonal
    goes on, apart, with its first entry, which lies between its extreme values.
    """
    tasks, n = first.shape
    basis = np.zeros((tasks, steps, n), first.dtype)
    tridiagonal = np.zeros((tasks, steps, steps))
    norms = _norms(first)
    q = first / np.where(norms == 0, 1, norms)[:, None]
    beta = np.ones(tasks)
    scale = np.zeros(tasks)
    for j in range(steps):
        basis[:, j] = q
        so_far, w = basis[:, : j + 1], np.asarray(product(q), first.dtype)
        scale = np.maximum(scale, _norms(w))
        overlaps = so_far @ w[:, :, None]  # (T, j + 1, 1)
        tridiagonal[:, j, j] = np.where(beta == 0, tridiagonal[:, 0, 0], overlaps[:, j, 0])
        w = w - (overlaps.swapaxes(1, 2) @ so_far)[:, 0]
        w -= ((so_far @ w[:, :, None]).swapaxes(1, 2) @ so_far)[:, 0]  # twice is enough
        beta = _norms(w)
        beta[beta <= BREAKDOWN * scale] = 0.0
        q = w * (np.where(beta == 0, 0.0, 1.0) / np.where(beta == 0, 1.0, beta)).astype(w.dtype)[:, None]
        if j + 1 < steps:
            tridiagonal[:, j, j + 1] = tridiagonal[:, j + 1, j] = beta
    values, vectors = np.linalg.eigh(tridiagonal)
    return values, vectors, beta


def _norms(rows: Array) -> Array:
    """(T,) of rows (T, n)."""
    return np.asarray(np.sqrt(np.einsum("tn,tn->t", rows, rows)))
