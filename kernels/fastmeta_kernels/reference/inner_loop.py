"""Gradient descent on the support sets, and the exact gradient of the query loss behind it.

phi_{k+1} = phi_k - m alpha_k g_k, g_k = grad L(phi_k) + d phi_k + p (phi_k - phi_0)
v_S = w_S grad Q(phi_S), v_k = v_{k+1} - H_k u_k + w_k grad Q(phi_k), u_k = m alpha_k v_{k+1}, H_k = H_L + d + p

The proximal term hands p u_k to phi_0 besides. Where some parameters are each step's own, those of v_k are their
gradient, and go no further.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastmeta_kernels.contract import Array, InnerLoop, MetaGradientArrays, TaskSet
from fastmeta_kernels.layer_table import Table, blocks, places
from fastmeta_kernels.reference.derivatives import Pass, gradient_pass, product_and_slopes, quiet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastmeta_kernels.blocks import Span

STASH_BYTES = 256 * 1024**2  # "auto" keeps every step's activations up to here


class _Step(NamedTuple):
    phi: Array  # (T, P) before the step
    run: Pass | None  # None where it is recomputed


@quiet
def adapt(table: Table, theta: Array, support: TaskSet, inner: InnerLoop) -> tuple[Array, Array]:
    """phi_S (T, P) and support losses (T, S) before each step."""
    first = phi = _put(table, _each_task(theta, support), inner, 0)
    losses = np.empty((len(phi), inner.steps), phi.dtype)
    for k in range(inner.steps):
        run = gradient_pass(table, phi, support)
        losses[:, k] = run.losses
        phi = _descend(table, phi, _pulled(run.gradient, phi, first, inner), inner, k)
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
    loss_weights: Array | None = None,
    each_task: bool = False,
    each_weight: bool = False,
) -> MetaGradientArrays:
    """d mean_t sum_k w_k Q_t(phi_k) / d theta (P,), / d alpha and / d step_parameters; order 1 leaves out H.

    d Q / d alpha_k = - m g_k v_{k+1}, summed over whatever shares a rate. d Q / d weight_n = - sum_k of the derivative
    along u_k of sample n's share of L; d Q / d d = - sum_k u_k phi_k, d Q / d p = - sum_k u_k (phi_k - phi_0).
    """
    from fastmeta_kernels.request import step_bytes  # late: who adapts needs none of it

    first = phi = _put(table, _each_task(theta, support), inner, 0)
    bytes_kept = len(phi) * inner.steps * step_bytes(table.tobytes(), support.x.shape[1], phi.dtype)
    stash = memory == "stash" or (memory == "auto" and bytes_kept <= STASH_BYTES)
    support_losses = np.empty((len(phi), inner.steps), phi.dtype)
    steps = []
    for k in range(inner.steps):
        run = gradient_pass(table, phi, support)
        support_losses[:, k] = run.losses
        steps.append(_Step(phi, run if stash else None))
        phi = _descend(table, phi, _pulled(run.gradient, phi, first, inner), inner, k)
    weights = np.eye(1, inner.steps + 1, inner.steps, phi.dtype)[0] if loss_weights is None else loss_weights
    query_losses, v = np.zeros(len(phi), phi.dtype), np.zeros_like(phi)
    rates_gradient = np.zeros_like(inner.rates)
    own = inner.step_parameters
    own_gradient = np.zeros((0, 0) if own is None else own.values.shape, phi.dtype)
    to_first, weights_gradient = np.zeros_like(v), np.zeros(support.x.shape[:2], phi.dtype)
    decay, proximal = inner.pulls or (0.0, 0.0)
    pulls_gradient = np.zeros(2 if inner.pulls else 0, phi.dtype)
    moved = slice(*inner.adapted)
    for k in range(inner.steps, -1, -1):
        if k < inner.steps:
            phi, kept = steps.pop()
            run = kept or gradient_pass(table, phi, support)
            dalpha = np.zeros(v.shape[1], v.dtype)
            dalpha[moved] = -(_pulled(run.gradient, phi, first, inner) * v)[:, moved].mean(axis=0)
            rates_gradient[k % len(rates_gradient)] += _shared(table, dalpha, inner.rates.shape[1])
            u = np.zeros_like(v)
            u[:, moved] = _rate(table, inner, k) * v[:, moved]
            if inner.pulls:
                pulls_gradient -= [(u * phi).sum() / len(u), (u * (phi - first)).sum() / len(u)]
            if order == 2:
                product, slopes = product_and_slopes(table, phi, u, support, run)
                v, to_first = v - product - (decay + proximal) * u, to_first + proximal * u
                weights_gradient -= slopes / len(u)
        if weights[k]:
            outcome = gradient_pass(table, phi, query)
            query_losses += weights[k] * outcome.losses
            v += weights[k] * outcome.gradient
        if own is not None:
            at = places(table, own.blocks)
            own_gradient[k] = v[:, at].mean(axis=0)
            v[:, at] = 0.0
    v += to_first
    nothing = np.zeros((0, 0), v.dtype)
    asked = v if each_task else nothing, weights_gradient if each_weight else nothing, pulls_gradient
    return MetaGradientArrays(query_losses, support_losses, v.mean(axis=0), rates_gradient, own_gradient, *asked)


def block_gradients(
    table: Table,
    theta: Array,
    support: TaskSet,
    query: TaskSet,
    inner: InnerLoop,
    blocks: Sequence[Span],
    order: int = 2,
    memory: str = "auto",
    loss_weights: Array | None = None,
) -> MetaGradientArrays:
    """`meta_gradient` of each block of tasks, one after the other: its bits do not depend on the others."""
    from fastmeta_kernels.blocks import one_by_one  # late: who adapts needs none of it

    def of(support: TaskSet, query: TaskSet) -> MetaGradientArrays:
        return meta_gradient(table, theta, support, query, inner, order, memory, loss_weights)

    return one_by_one(of, support, query, blocks)


def _each_task(theta: Array, data: TaskSet) -> Array:
    return np.array(np.broadcast_to(theta, (len(data.x), theta.shape[-1])))  # (T, P), a copy


def _pulled(gradient: Array, phi: Array, first: Array, inner: InnerLoop) -> Array:
    """g_k = grad L(phi_k) + d phi_k + p (phi_k - phi_0)."""
    if inner.pulls is None:
        return gradient
    decay, proximal = inner.pulls
    return gradient + decay * phi + proximal * (phi - first)


def _descend(table: Table, phi: Array, gradient: Array, inner: InnerLoop, k: int) -> Array:
    """phi_{k+1}."""
    phi = phi.copy()
    moved = slice(*inner.adapted)
    phi[:, moved] -= _rate(table, inner, k) * gradient[:, moved]
    return _put(table, phi, inner, k + 1)


def _put(table: Table, phi: Array, inner: InnerLoop, k: int) -> Array:
    """phi, written over with the parameters that are step k's own."""
    if inner.step_parameters is not None:
        phi[:, places(table, inner.step_parameters.blocks)] = inner.step_parameters.values[k]
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
