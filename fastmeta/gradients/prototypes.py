"""The prototype head as a function: embeddings and labels in, loss and gradients out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastmeta import checks, inputs
from fastmeta import device as devices
from fastmeta.floating import quiet
from fastmeta_kernels.contract import Array, PrototypeHead

METRICS = ("euclidean", "cosine")
_SINGLE, _DOUBLE, _LABEL = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int64)


@quiet
def prototype_loss(
    support: ArrayLike,
    y_support: ArrayLike,
    query: ArrayLike,
    y_query: ArrayLike,
    metric: str = "euclidean",
    scale: float = 10.0,
    *,
    device: str = "cpu",
) -> tuple[Any, Array, Array]:
    """Cross-entropy of query embeddings by their similarity to class means, and its gradient by all embeddings.

    support (N, D) and query (M, D) with labels (N,) and (M,) in 0 .. ways-1 give a float, d_support (N, D) and
    d_query (M, D), with a mean over the M queries. A leading T gives T of each. metric="euclidean": logits are
    -|q - c|^2; "cosine": scale * cos(q, c), where a zero vector has cosine 0 with all others and gradient 0.
    float64 where one of the embeddings is, otherwise float32.
    Raises ValueError where a class has no support sample, DivergenceError where the loss is not finite.
    Source: Snell et al. 2017, arXiv 1703.05175, equations 1 and 2.

    >>> loss, d_support, d_query = prototype_loss(np.eye(2), [0, 1], [[0.5, 0.5]], [0], device="numpy")
    >>> round(loss, 4), d_query.tolist()
    (0.6931, [[-1.0, 1.0]])
    """
    s, q = inputs.array("support", support), inputs.array("query", query)
    single = s.ndim == 2
    s, q = _embeddings(s, "support", single), _embeddings(q, "query", single)
    if s.shape[::2] != q.shape[::2]:
        raise ValueError(f"support of shape {s.shape} and query of shape {q.shape} must agree in tasks and width.")
    dtype = _DOUBLE if any(a.dtype.kind == "f" and a.dtype.itemsize >= 8 for a in (s, q)) else _SINGLE
    s, q = _plain(s, dtype), _plain(q, dtype)
    first = 1 if single else 0
    y_s = labels(y_support, "y_support", s.shape[first:2]).reshape(s.shape[:2])
    y_q = labels(y_query, "y_query", q.shape[first:2]).reshape(q.shape[:2])
    head = PrototypeHead(ways(y_s), *similarity(metric, scale))
    check_queries(y_q, head.ways)
    found = devices.backend(device).prototype_loss(s, y_s, q, y_q, head)
    if not (math.isfinite(found.losses[0]) if single else np.isfinite(found.losses).all()):
        checks.finite("support", s)
        checks.finite("query", q)
        raise checks.DivergenceError(
            f"the loss is not finite: support or query are too large for {s.dtype}. Scale the embeddings to about 1."
        )
    if single:
        return float(found.losses[0]), found.d_support[0], found.d_query[0]
    return found.losses, found.d_support, found.d_query


def logits(support: Array, y_support: Array, query: Array, head: PrototypeHead, device: str) -> Array:
    """Logits (T, M, K) of query embeddings (T, M, D), all arguments being valid."""
    support, query = np.ascontiguousarray(support), np.ascontiguousarray(query)
    anything = np.zeros(query.shape[:2], np.int64)
    return devices.backend(device).prototype_loss(support, y_support, query, anything, head).logits


def nearest(logits: Array, head: PrototypeHead) -> Array:
    """(..., M) distances to the nearest prototype, squared Euclidean or 1 - cosine, of logits (..., M, K)."""
    similarity: Array = logits.max(axis=-1)
    return -similarity if head.metric == "euclidean" else 1 - similarity / head.scale


def averaging(y: Array, ways: int, dtype: Any) -> Array:
    """(T, K, N): 1 / n_k where sample n of labels (T, N) is of class k, else 0; times embeddings, class means."""
    member = y[:, None, :] == np.arange(ways)[:, None]
    return np.asarray(member / member.sum(axis=2, keepdims=True), dtype)


def similarity(metric: str, scale: float) -> tuple[str, float]:
    """The checked metric and scale of a head."""
    return checks.choice("metric", metric, METRICS), checks.positive("scale", scale)


def ways(y: Array, name: str = "y_support") -> int:
    """The number of classes K of support labels (T, N); ValueError where a task has no sample of one of them."""
    tasks, samples = y.shape
    count = _highest(y) + 1
    if count <= samples:
        shifted = y if tasks == 1 else y + count * np.arange(tasks)[:, None]
        if np.bincount(shifted.ravel(), minlength=tasks * count).all():
            return count
    low, count = int(y.min()), int(y.max()) + 1
    if low < 0:
        raise ValueError(f"labels must be 0 .. ways-1; got {low} in {name}.")
    task = next(t for t in range(tasks) if len(np.unique(y[t])) < count)
    present = np.unique(y[task])
    missing = int(np.argmin(np.append(present == np.arange(len(present)), False)))
    raise ValueError(
        f"{name} has no sample of class {missing} in task {task}; every class of 0 .. {count - 1} needs at least one. "
        "Number the classes of a task from 0, without a gap."
    )


def check_queries(y: Array, count: int, name: str = "y_query") -> None:
    """ValueError where a query label is not one of the support set's classes."""
    if _highest(y) >= count:
        low, high = int(y.min()), int(y.max())
        wrong = low if low < 0 else high
        raise ValueError(f"{name} has class {wrong}; the support set has classes 0 .. {count - 1}.")


def _highest(y: Array) -> int:
    """The largest of integer labels; a negative one counts as larger than all others."""
    return int(np.ascontiguousarray(y, np.int64).view(np.uint64).max())


def _plain(values: Array, dtype: Any) -> Array:
    """C-contiguous and aligned, of a dtype: itself where it is already."""
    flags = values.flags
    if values.dtype is dtype and flags.c_contiguous and flags.aligned:
        return values
    return np.require(values, dtype, ("C", "A"))


def _embeddings(values: Array, name: str, single: bool) -> Array:
    if values.dtype.kind not in "fiu":
        raise TypeError(f"{name} of dtype {values.dtype} must be numbers.")
    if values.ndim != (2 if single else 3) or 0 in values.shape:
        raise ValueError(
            f"{name} of shape {values.shape} must be (samples, D), or (tasks, samples, D) in both sets, and not empty."
        )
    return values[None] if single else values


def labels(values: Any, name: str, lead: tuple[int, ...]) -> Array:
    """int64 labels of shape `lead`."""
    given = inputs.array(name, values)
    if given.dtype.kind not in "iu":
        raise TypeError(f"{name} of dtype {given.dtype} must be integer labels.")
    if given.shape != lead:
        raise ValueError(f"{name} of shape {given.shape} must hold one label a sample: {lead}.")
    return _plain(given, _LABEL)
