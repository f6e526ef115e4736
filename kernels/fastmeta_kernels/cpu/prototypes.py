"""The prototype head of a task, fused: class means, similarities, softmax, loss and both gradients in one pass.

With prototypes c_k = m + c'_k (m their mean, or 0 for the cosine) a logit is z = h_q f_k q . c'_k - b_k, but for what
all classes share: h = 1, f = 2, b = |c'|^2 + 2 m . c' for -|q - c|^2; h = 1 / |q|, f = scale / |c|, b = 0 for the
cosine. With a = (p - e) h f / M the gradients are products with the same matrices, dq = a c' and dc = a^T q, and a
multiple of q and c. Queries are split into blocks by size alone: threads can share a task without changing a bit.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.contract import PrototypeHead
from fastmeta_kernels.cpu._jit import entry, kernel, linked
from fastmeta_kernels.cpu.exponential import exp, largest
from fastmeta_kernels.cpu.job import array_at
from fastmeta_kernels.cpu.plan import CACHE_LINE
from fastmeta_kernels.cpu.product import product
from fastmeta_kernels.cpu.vector import VECTOR_BYTES, load, maximum, splat, store, total, transpose

# Fields of a head (1, FIELDS). Sizes, with KP and DP the next whole vectors; where the data are: addresses if EXTERNAL,
# else offsets into the workspace (labels and the scale are always addresses; no logits are written where LOGITS is 0);
# offsets of what the head keeps.
(
    TASKS, N, M, K, D, KP, DP, BLOCKS, BY_BLOCKS, COSINE, EXTERNAL, SIZE,
    SUPPORT, QUERY, D_SUPPORT, D_QUERY, Y_SUPPORT, Y_QUERY, SCALE, LOSSES, LOGITS,
    ZEROS, MEAN, C, CT, F, B, WEIGHT, SHARE, X, A, NORMS, DC, SUMS, LOSS, QP, DQP,
) = range(37)  # fmt: skip
FIELDS = 37
ROWS_OF_A_BLOCK, ROWS_AT_ONCE = 84, 28
PREPARE, BLOCK, FINISH, ALL = range(4)


class Layout(NamedTuple):
    """A head's fields but for the data's, and the scalars of its workspace."""

    fields: NDArray[np.int64]
    size: int
    scale: NDArray[Any]


@lru_cache(maxsize=256)
def layout(head: PrototypeHead, support: int, query: int, width: int, dtype: Any, start: int = 0) -> Layout:
    """The head for N and M embeddings of `width` scalars, its workspace from offset `start` on."""
    line, lanes = CACHE_LINE // dtype.itemsize, VECTOR_BYTES // dtype.itemsize
    kp, dp = (-(-n // lanes) * lanes for n in (head.ways, width))
    blocks = -(-query // ROWS_OF_A_BLOCK)
    padded = query * dp if dp != width else 0
    fields = np.zeros(FIELDS, np.int64)
    fields[[N, M, K, D, KP, DP, BLOCKS]] = support, query, head.ways, width, kp, dp, blocks
    fields[COSINE] = head.metric == "cosine"
    size = start
    for field, count in (
        (ZEROS, max(kp, dp)), (MEAN, dp), (C, kp * dp), (CT, dp * kp), (F, kp), (B, kp), (WEIGHT, kp), (SHARE, kp),
        (X, query * kp), (A, query * kp), (NORMS, query), (DC, blocks * kp * dp), (SUMS, blocks * kp),
        (LOSS, blocks + 1), (QP, padded), (DQP, padded),
    ):  # fmt: skip
        fields[field] = size
        size += -(-count // line) * line
    fields[SIZE] = size
    return Layout(fields, size, np.array([head.scale], dtype))


@kernel
def _embeddings(ws, head, field, t, count):
    """The (count * D,) embeddings of task t, or the place of their gradient."""
    size = count * head[0, D]
    if head[0, EXTERNAL]:
        return array_at(ws, head[0, field], t * size, size)
    return ws[head[0, field] : head[0, field] + size]


@kernel
def _offset(ws, head, field, t, count):
    """Where `_embeddings` begin, in scalars from the beginning of the workspace: may be outside of it."""
    if head[0, EXTERNAL]:
        return (head[0, field] - np.int64(ws.ctypes.data)) // ws.itemsize + t * count * head[0, D]
    return head[0, field]


@kernel
def _prepare(ws, head, t):
    """Prototypes, centred, also transposed, with their norms: all that the queries need of the support set."""
    n, k, d, kp, dp = head[0, N], head[0, K], head[0, D], head[0, KP], head[0, DP]
    c, mean, share, width = head[0, C], head[0, MEAN], head[0, SHARE], VECTOR_BYTES // ws.itemsize
    one, zero = ws.dtype.type(1.0), ws.dtype.type(0.0)
    whole = d - d % width
    support = _embeddings(ws, head, SUPPORT, t, n)
    labels = array_at(head, head[0, Y_SUPPORT], t * n, n)
    for i in range(0, k * dp, width):
        store(ws, c + i, splat(zero))
    for i in range(k):
        ws[share + i] = zero
    for i in range(n):
        row = c + labels[i] * dp
        ws[share + labels[i]] += one
        for j in range(0, whole, width):
            store(ws, row + j, load(ws, row + j) + load(support, i * d + j))
        for j in range(whole, d):
            ws[row + j] += support[i * d + j]
    for i in range(k):
        ws[share + i] = one / ws[share + i]
        for j in range(0, dp, width):
            store(ws, c + i * dp + j, load(ws, c + i * dp + j) * splat(ws[share + i]))
    if not head[0, COSINE]:
        part = splat(one / ws.dtype.type(k))
        for j in range(0, dp, width):
            s = splat(zero)
            for i in range(k):
                s = s + load(ws, c + i * dp + j)
            s = s * part
            store(ws, mean + j, s)
            for i in range(k):
                store(ws, c + i * dp + j, load(ws, c + i * dp + j) - s)
    for i in range(0, kp, width):
        for j in range(0, dp, width):
            transpose(ws, c + i * dp + j, dp, head[0, CT] + j * kp + i, kp)
    _scale_prototypes(ws, head)


@kernel
def _scale_prototypes(ws, head):
    """f, b and the weight of c in dc; padding classes have a logit that no softmax sees."""
    k, kp, dp, width = head[0, K], head[0, KP], head[0, DP], VECTOR_BYTES // ws.itemsize
    f, b, weight, cosine = head[0, F], head[0, B], head[0, WEIGHT], head[0, COSINE] == 1
    scale = array_at(ws, head[0, SCALE], 0, 1)[0]
    two = splat(ws.dtype.type(2.0))
    for i in range(k):
        s = splat(ws.dtype.type(0.0))
        for j in range(0, dp, width):
            x = load(ws, head[0, C] + i * dp + j)
            s = s + x * (x + two * load(ws, head[0, MEAN] + j))
        square = total(s)
        inverse = _inverse_root(ws, square) if cosine else ws.dtype.type(1.0)
        ws[f + i] = scale * inverse if cosine else ws.dtype.type(2.0)
        ws[b + i] = ws.dtype.type(0.0) if cosine else square
        ws[weight + i] = inverse * inverse
    for i in range(k, kp):
        ws[b + i] = ws.dtype.type(1e30 if cosine else np.inf)


@kernel
def _inverse_root(ws, square):
    """1 / |x| of |x|^2; 0 below the smallest normal number, NaN at infinity."""
    tiny = 1.1754943508222875e-38 if ws.itemsize == 4 else 2.2250738585072014e-308
    return ws.dtype.type(0.0) if square < tiny else ws.dtype.type(np.sqrt(square) / square)


@kernel
def _block(ws, head, t, block):
    """Logits, losses and both gradients of one block of queries; the gradient of the prototypes is the block's own."""
    m, d, k, kp, dp = head[0, M], head[0, D], head[0, K], head[0, KP], head[0, DP]
    first, last = block * m // head[0, BLOCKS], (block + 1) * m // head[0, BLOCKS]
    rows, width, padded = last - first, VECTOR_BYTES // ws.itemsize, d != dp
    queries = _embeddings(ws, head, QUERY, t, m)
    if padded:
        for i in range(first, last):
            for j in range(d):
                ws[head[0, QP] + i * dp + j] = queries[i * d + j]
    q = (head[0, QP] if padded else _offset(ws, head, QUERY, t, m)) + first * dp
    dq = (head[0, DQP] if padded else _offset(ws, head, D_QUERY, t, m)) + first * dp
    x, a, norms = head[0, X] + first * kp, head[0, A] + first * kp, head[0, NORMS] + first
    dc, sums = head[0, DC] + block * kp * dp, head[0, SUMS] + block * kp
    zero, loss = splat(ws.dtype.type(0.0)), 0.0
    for i in range(0, k * dp, width):
        store(ws, dc + i, zero)
    for j in range(0, kp, width):
        store(ws, sums + j, zero)
    for i in range(0, rows, ROWS_AT_ONCE):
        loss += _rows(
            ws,
            head,
            t,
            first + i,
            min(ROWS_AT_ONCE, rows - i),
            q + i * dp,
            dq + i * dp,
            x + i * kp,
            a + i * kp,
            norms + i,
            dc,
            sums,
        )
    ws[head[0, LOSS] + 1 + block] = loss
    if padded:
        gradient = _embeddings(ws, head, D_QUERY, t, m)
        for i in range(rows):
            for j in range(d):
                gradient[(first + i) * d + j] = ws[dq + i * dp + j]


@kernel
def _rows(ws, head, t, first, rows, q, dq, x, a, norms, dc, sums):
    """The loss of a few rows of queries, and what they add to the gradients: all of it stays in cache."""
    d, k, kp, dp, zeros = head[0, D], head[0, K], head[0, KP], head[0, DP], head[0, ZEROS]
    width = VECTOR_BYTES // ws.itemsize
    for i in range(rows):
        s = splat(ws.dtype.type(0.0))
        for j in range(0, dp, width):
            e = load(ws, q + i * dp + j) - load(ws, head[0, MEAN] + j)
            s = s + e * e
        ws[norms + i] = total(s)
    product(ws, rows, kp, 1, d, q, dp, 1, 0, head[0, CT], kp, 0, x, kp, zeros, 0, 1.0, False)
    loss = _softmax(ws, head, t, first, rows, x, a, norms, sums)
    if head[0, COSINE]:
        for i in range(rows):
            s = splat(ws[norms + i])
            for j in range(0, dp, width):
                store(ws, dq + i * dp + j, s * load(ws, q + i * dp + j))
        product(ws, rows, dp, 1, k, a, kp, 1, 0, head[0, C], dp, 0, dq, dp, dq, dp, 1.0, False)
    else:
        product(ws, rows, dp, 1, k, a, kp, 1, 0, head[0, C], dp, 0, dq, dp, zeros, 0, 1.0, False)
    product(ws, k, dp, 1, rows, a, 1, kp, 0, q, dp, 0, dc, dp, dc, dp, 1.0, False)
    return loss


@kernel
def _softmax(ws, head, t, first, rows, x, a, norms, sums):
    """z, the loss, a = (p - e) h f / M from the products x; `norms` become the multiples of q in dq (cosine)."""
    m, k, kp, width = head[0, M], head[0, K], head[0, KP], VECTOR_BYTES // ws.itemsize
    f, b, cosine = head[0, F], head[0, B], head[0, COSINE] == 1
    one = ws.dtype.type(1.0)
    share = one / ws.dtype.type(m)
    labels = array_at(head, head[0, Y_QUERY], t * m, m)
    logits = array_at(ws, head[0, LOGITS], t * m * k, m * k if head[0, LOGITS] else 0)
    loss = 0.0
    for i in range(rows):
        row, out, label = x + i * kp, a + i * kp, labels[first + i]
        h = _inverse_root(ws, ws[norms + i]) if cosine else one
        top = splat(ws.dtype.type(-np.inf))
        for j in range(0, kp, width):
            z = splat(h) * load(ws, f + j) * load(ws, row + j) - load(ws, b + j)
            store(ws, row + j, z)
            top = maximum(top, z)
        peak = largest(top)
        mass = splat(ws.dtype.type(0.0))
        for j in range(0, kp, width):
            p = exp(load(ws, row + j) - splat(peak))
            store(ws, out + j, p)
            mass = mass + p
        sum_p = total(mass)
        loss += np.log(sum_p) + (peak - ws[row + label])
        ws[out + label] -= sum_p
        scaled, mixed = splat(share / sum_p), splat(ws.dtype.type(0.0))
        for j in range(0, kp, width):
            g = scaled * load(ws, out + j)
            z = load(ws, row + j)
            value = splat(h) * load(ws, f + j) * g
            store(ws, out + j, value)
            part = g * z if cosine else value
            store(ws, sums + j, load(ws, sums + j) + part)
            mixed = mixed + part
        if logits.size:
            _write_logits(ws, logits, (first + i) * k, row, k, ws.dtype.type(0.0) if cosine else ws[norms + i])
        ws[norms + i] = -h * h * total(mixed)
    return loss


@kernel
def _write_logits(ws, logits, at, row, k, distance):
    """logits[at:] = z - distance; the last vector overlaps the one before it."""
    width = VECTOR_BYTES // ws.itemsize
    if k < width:
        for j in range(k):
            logits[at + j] = ws[row + j] - distance
        return
    for j in range(0, k, width):
        j = min(j, k - width)
        store(logits, at + j, load(ws, row + j) - splat(distance))


@kernel
def _finish(ws, head, t):
    """The loss, and the gradients of the prototypes from those of the blocks, dealt out to the support set."""
    n, k, d, kp, dp = head[0, N], head[0, K], head[0, D], head[0, KP], head[0, DP]
    dc, sums, width = head[0, DC], head[0, SUMS], VECTOR_BYTES // ws.itemsize
    whole = d - d % width
    loss = 0.0
    for block in range(head[0, BLOCKS]):
        loss += ws[head[0, LOSS] + 1 + block]
    ws[head[0, LOSS]] = loss / head[0, M]
    if head[0, EXTERNAL]:
        array_at(ws, head[0, LOSSES], t, 1)[0] = ws[head[0, LOSS]]
    for i in range(k):
        weight = ws.dtype.type(0.0)
        for block in range(head[0, BLOCKS]):
            weight -= ws[sums + block * kp + i]
        multiple, share = splat(weight * ws[head[0, WEIGHT] + i]), splat(ws[head[0, SHARE] + i])
        for j in range(0, dp, width):
            s = multiple * (load(ws, head[0, C] + i * dp + j) + load(ws, head[0, MEAN] + j))
            for block in range(head[0, BLOCKS]):
                s = s + load(ws, dc + (block * kp + i) * dp + j)
            store(ws, dc + i * dp + j, share * s)
    gradient = _embeddings(ws, head, D_SUPPORT, t, n)
    labels = array_at(head, head[0, Y_SUPPORT], t * n, n)
    for i in range(n):
        row = dc + labels[i] * dp
        for j in range(0, whole, width):
            store(gradient, i * d + j, load(ws, row + j))
        for j in range(whole, d):
            gradient[i * d + j] = ws[row + j]


@linked
def phase(ws, head, t, which, block):
    """One phase of the head of task t: before, within or behind the blocks of queries; or ALL of it."""
    if which == PREPARE or which == ALL:
        _prepare(ws, head, t)
    if which == BLOCK:
        _block(ws, head, t, block)
    elif which == ALL:
        for i in range(head[0, BLOCKS]):
            _block(ws, head, t, i)
    if which == FINISH or which == ALL:
        _finish(ws, head, t)


@entry(parallel=True)
def run_heads(workspaces, head):
    """Every task, one a thread; or, BY_BLOCKS, one after the other with their blocks over the threads."""
    tasks, blocks, size = head[0, TASKS], head[0, BLOCKS], head[0, SIZE]
    if head[0, BY_BLOCKS]:
        for t in range(tasks):
            phase(workspaces, head, t, PREPARE, 0)
            for block in numba.prange(blocks):
                phase(workspaces, head, t, BLOCK, block)
            phase(workspaces, head, t, FINISH, 0)
        return
    for t in numba.prange(tasks):
        start = numba.get_thread_id() * size
        phase(workspaces[start : start + size], head, t, ALL, 0)


@entry(parallel=False)
def run_heads_alone(workspaces, head):
    """`run_heads` in the calling thread, to the same bits."""
    for t in range(head[0, TASKS]):
        phase(workspaces, head, t, ALL, 0)
