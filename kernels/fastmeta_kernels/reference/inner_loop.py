"""Gradient descent on the support sets, and the exact gradient of the query loss behind it.

phi_{k+1} = phi_k - m alpha_k grad L(phi_k)
v_S = grad Q(phi_S), v_k = v_{k+1} - H_L(phi_k)[m alpha_k v_{k+1}]
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastmeta_kernels.contract import Array, InnerLoop, MetaGradient, TaskSet
from fastmeta_kernels.layer_table import OUT_C, OUT_H, Table, blocks
from fastmeta_kernels.reference.derivatives import Pass, gradient_pass, quiet, tangent_pass

STASH_BYTES = 256 * 1024**2  # "auto" keeps every step's activations up to here


class _Step(NamedTuple):
    phi: Array  # (T, P) before the step
    run: Pass | None  # None where it is recomputed


@quiet
def adapt(table: Table, theta: Array, support: TaskSet, inner: InnerLoop) -> tuple[Array, Array]:
    """phi_S (T, P) and support losses (T, S) before each step."""
    phi = _each_task(theta, support)
    losses = np.empty((len(phi), inner.steps), phi.dtype)
    for k in range(inner.steps):
        run = gradient_pass(table, phi, support)
        losses[:, k] = run.losses
        phi = _descend(table, phi, run.gradient, inner, k)
    return phi, losses


@quiet
def meta_gradient(
    table: Table,
    theta: Array,
    support: TaskSet,
    query: TaskSet,
    inner: InnerLoop,
    order: int = 2,
    memory: str = "auto",
) -> MetaGradient:
    """d mean_t Q_t(phi_S) / d theta (P,) and / d alpha (shape of rates); order 1 leaves v = v_S throughout.

    d Q / d alpha_k = - m grad L(phi_k) v_{k+1}, summed over whatever shares a rate.
    """
    phi = _each_task(theta, support)
    stash = memory == "stash" or (memory == "auto" and _stash_bytes(table, support, inner) <= STASH_BYTES)
    support_losses = np.empty((len(phi), inner.steps), phi.dtype)
    steps = []
    for k in range(inner.steps):
        run = gradient_pass(table, phi, support)
        support_losses[:, k] = run.losses
        steps.append(_Step(phi, run if stash else None))
        phi = _descend(table, phi, run.gradient, inner, k)
    outcome = gradient_pass(table, phi, query)
    v = outcome.gradient
    rates_gradient = np.zeros_like(inner.rates)
    moved = slice(*inner.adapted)
    for k in reversed(range(inner.steps)):
        run = steps[k].run or gradient_pass(table, steps[k].phi, support)
        dalpha = np.zeros(v.shape[1], v.dtype)
        dalpha[moved] = -(run.gradient[:, moved] * v[:, moved]).mean(axis=0)
        rates_gradient[k % len(rates_gradient)] += _shared(table, dalpha, inner.rates.shape[1])
        if order == 2:
            direction = np.zeros_like(v)
            direction[:, moved] = _rate(table, inner, k) * v[:, moved]
            v = v - tangent_pass(table, steps[k].phi, direction, support, run)
        steps.pop()
    return MetaGradient(outcome.losses, support_losses, v.mean(axis=0), rates_gradient)


def _each_task(theta: Array, data: TaskSet) -> Array:
    return np.array(np.broadcast_to(theta, (len(data.x), theta.shape[-1])))  # (T, P), a copy


def _descend(table: Table, phi: Array, gradient: Array, inner: InnerLoop, k: int) -> Array:
    phi = phi.copy()
    moved = slice(*inner.adapted)
    phi[:, moved] -= _rate(table, inner, k) * gradient[:, moved]
    return phi


def _rate(table: Table, inner: InnerLoop, k: int) -> Array:
    """alpha_k over theta[start:stop], (1,) or (stop - start,)."""
    rate: Array = inner.rates[k % len(inner.rates)]
    edges = blocks(table)
    if len(rate) == 1:
        return rate
    if len(rate) != edges[-1]:
        rate = np.repeat(rate, np.diff(edges))
    return rate[slice(*inner.adapted)]


def _shared(table: Table, dalpha: Array, rates: int) -> Array:
    """Sums of dalpha (P,) over whatever shares one of R rates. (R,)."""
    if rates == len(dalpha):
        return dalpha
    if rates == 1:
        return np.asarray(dalpha.sum(keepdims=True))
    return np.asarray(np.add.reduceat(dalpha, blocks(table)[:-1]))


def _stash_bytes(table: Table, support: TaskSet, inner: InnerLoop) -> int:
    values = int(table[:, OUT_H : OUT_C + 1].prod(axis=1).sum())  # of one sample
    tasks, samples = support.x.shape[:2]
    return int(2 * values * tasks * samples * inner.steps * support.x.itemsize)
