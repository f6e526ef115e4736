"""Conjugate gradients: linear systems solved by products with their matrix, such as Hessian-vector products."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from fastmeta.floating import no_overflow
from fastmeta_kernels.contract import Array


def conjugate_gradients(product: Callable[[Array], Array], b: Array, steps: int) -> Iterator[Array]:
    """Approximate solutions x (T, P) of A x = b, from 0, after each step (Hestenes & Stiefel 1952).

    product(v) is A v, of T symmetric matrices at once. Where A is not positive along the next direction, or
    solved, a task stays where it is, for all further steps (Steihaug 1983).
    """
    x, r = np.zeros_like(b), b
    p, square = r, _dot(r, r)
    for _ in range(steps):
        moved = product(p)
        curvature = _dot(p, moved)
        along = _quotient(square, curvature, curvature > 0)
        x, r = x + along * p, r - along * moved
        left = _dot(r, r)
        turn = _quotient(left, square, along > 0)
        p = np.where(along > 0, r + turn * p, p)
        no_overflow(p)
        square = left
        yield x


def _dot(a: Array, b: Array) -> Array:
    dot: Array = (a * b).sum(axis=1, keepdims=True)  # (T, 1)
    no_overflow(dot)
    return dot


def _quotient(a: Array, b: Array, defined: Array) -> Array:
    """a / b where it is defined, else 0."""
    return np.where(defined, a / np.where(defined, b, 1), 0)
