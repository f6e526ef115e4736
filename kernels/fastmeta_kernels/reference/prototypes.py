"""Prototypical networks: classes are the means of their embeddings (Snell et al. 2017, arXiv 1703.05175).

Embeddings (T, N, D) and (T, M, D); `e` (T, K, N) is the averaging matrix: 1 / n_k where sample n is of class k.
"""

from __future__ import annotations

import numpy as np

from fastmeta_kernels.contract import Array, PrototypeHead, PrototypeLoss, TaskSet
from fastmeta_kernels.layer_table import Table
from fastmeta_kernels.reference import losses, network
from fastmeta_kernels.reference.derivatives import quiet


@quiet
def prototype_loss(
    support: Array, y_support: Array, query: Array, y_query: Array, head: PrototypeHead
) -> PrototypeLoss:
    """L = 1/M sum_m (log sum_k exp z_mk - z_m,y_m), z the similarity of query m and prototype k."""
    member = y_support[:, None, :] == np.arange(head.ways)[:, None]
    e = (member / member.sum(axis=2, keepdims=True)).astype(support.dtype)
    c = e @ support
    z = euclidean(query, c) if head.metric == "euclidean" else cosine(query, c, head.scale)
    labelled = TaskSet(query, y_query)
    dz = losses.backward(z, labelled)
    backward = euclidean_backward(dz, query, c) if head.metric == "euclidean" else cosine_backward(dz, query, c, head)
    d_query, dc = backward
    return PrototypeLoss(losses.forward(z, labelled), z, e.swapaxes(1, 2) @ dc, d_query)


def euclidean(q: Array, c: Array) -> Array:
    """z = -|q - c|^2. (T, M, K)."""
    z = np.empty((*q.shape[:2], c.shape[1]), q.dtype)
    for k in range(c.shape[1]):
        z[:, :, k] = -np.square(q - c[:, k, None]).sum(axis=2)
    return z


def euclidean_backward(dz: Array, q: Array, c: Array) -> tuple[Array, Array]:
    """dq = -2 (q sum_k dz - dz c), dc = 2 (dz^T q - c sum_m dz)."""
    dq = 2 * (dz @ c - q * dz.sum(axis=2)[:, :, None])
    dc = 2 * (dz.swapaxes(1, 2) @ q - c * dz.sum(axis=1)[:, :, None])
    return dq, dc


def cosine(q: Array, c: Array, scale: float) -> Array:
    """z = scale u v^T of the unit vectors u = q / |q|, v = c / |c|. (T, M, K)."""
    return np.asarray(scale * (inverse_norm(q) * q) @ (inverse_norm(c) * c).swapaxes(1, 2)).astype(q.dtype)


def cosine_backward(dz: Array, q: Array, c: Array, head: PrototypeHead) -> tuple[Array, Array]:
    """du = scale dz v, dq = (du - u (u . du)) / |q|; likewise dc."""
    r, s = inverse_norm(q), inverse_norm(c)
    u, v, dz = r * q, s * c, (head.scale * dz).astype(q.dtype)
    du, dv = dz @ v, dz.swapaxes(1, 2) @ u
    dq = r * (du - u * (u * du).sum(axis=2, keepdims=True))
    dc = s * (dv - v * (v * dv).sum(axis=2, keepdims=True))
    return dq, dc


def inverse_norm(x: Array) -> Array:
    """1 / |x| (T, N, 1); 0 where |x|^2 is below the smallest normal number."""
    squares = np.square(x).sum(axis=2, keepdims=True)
    small = squares < np.finfo(x.dtype).tiny
    return np.where(small, 0, np.sqrt(squares) / np.where(small, 1, squares))  # inf / inf is NaN, and seen


@quiet
def prototype_gradient(
    table: Table, theta: Array, data: TaskSet, support: int, head: PrototypeHead
) -> tuple[Array, Array]:
    """L (T,) and dL / dtheta (T, P) of embeddings z = f(x, theta)."""
    theta = np.atleast_2d(theta)
    xs = network.forward(table, theta, data.x)
    z, y, n = xs[-1], data.y, support
    found = prototype_loss(z[:, :n], y[:, :n], z[:, n:], y[:, n:], head)
    dz = np.concatenate([found.d_support, found.d_query], axis=1)
    return found.losses, network.backward(table, theta, xs, dz)[0]
