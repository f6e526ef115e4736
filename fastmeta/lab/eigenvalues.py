"""Eigenvalues of a matrix that is known by its products: Lanczos with full reorthogonalisation.

Golub & Van Loan, Matrix Computations, section 10.1.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta import checks
from fastmeta.floating import quiet

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
    tridiagonal, beyond = lanczos(lambda v: np.asarray(product(v[0]))[None], first, steps)
    values, vectors = np.linalg.eigh(tridiagonal)
    kept = vectors[0, 0] != 0  # rows behind a breakdown have no part in the first vector
    weights, residuals = np.square(vectors[0, 0]), np.abs(beyond[0] * vectors[0, -1])
    return Spectrum(values[0][kept], weights[kept], residuals[kept])


def lanczos(product: Callable[[Array], Array], first: Array, steps: int) -> tuple[Array, Array]:
    """T matrices at once: their tridiagonals (T, k, k), whose eigenvalues are the Ritz values, and the next beta (T,).

    `product` maps (T, n) to (T, n) in the float dtype of `first`. Where the Krylov space is exhausted the tridiagonal
    goes on, apart, with its first entry, which lies between its extreme values.
    """
    tasks, n = first.shape
    basis = np.empty((tasks, steps, n), first.dtype)
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
    return tridiagonal, beta


def ends(product: Callable[[Array], Array], first: Array, steps: int) -> Array:
    """(2, T): the least and the largest Ritz value of T matrices at once, by three terms; no vectors are kept.

    Rounding finds again what has converged and moves none of it (Paige 1980, doi 10.1016/0024-3795(80)90167-6). Where a
    vector is 0 the tridiagonal goes on as in `lanczos`.
    """
    tridiagonal = np.zeros((len(first), steps, steps))
    beta, before, w = _norms(first)[:, None], np.zeros_like(first), first
    for j in range(steps):
        over = None if beta.all() else beta[:, 0] == 0
        q = w / beta if over is None else w / np.where(beta == 0, 1, beta)
        w = np.asarray(product(q), first.dtype)
        alpha = np.vecdot(q, w)
        tridiagonal[:, j, j] = alpha if over is None else np.where(over, tridiagonal[:, 0, 0], alpha)
        if j + 1 < steps:
            w = w - alpha[:, None] * q
            if j:
                w -= beta * before
            before, beta = q, _norms(w)[:, None]
            tridiagonal[:, j, j + 1] = tridiagonal[:, j + 1, j] = beta[:, 0]
    if not checks.all_finite(tridiagonal):
        raise checks.DivergenceError("a Hessian product is not finite. Halve inner_lr, or scale the data to about 1.")
    return np.linalg.eigvalsh(tridiagonal)[:, [0, -1]].T


def _norms(rows: Array) -> Array:
    """(T,) of rows (T, n)."""
    return np.asarray(np.sqrt(np.vecdot(rows, rows)))
