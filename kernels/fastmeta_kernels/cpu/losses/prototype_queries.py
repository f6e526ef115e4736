"""The query side of the prototype head: similarities, softmax, loss and gradients of one block of queries at a time."""

from __future__ import annotations

import numpy as np

from fastmeta_kernels.cpu.layout.job import array_at, integers_at
from fastmeta_kernels.cpu.machine.exponential import exp, largest
from fastmeta_kernels.cpu.machine.jit import kernel
from fastmeta_kernels.cpu.machine.product import product
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES, load, maximum, splat, store, total

ROWS_AT_ONCE = 28


@kernel
def embeddings(ws, head, start, t, count):
    """The (count * D,) embeddings of task t, or the place of their gradient."""
    size = count * head.d
    if head.external:
        return array_at(ws, start, t * size, size)
    return ws[start : start + size]


@kernel
def _offset(ws, head, start, t, count):
    """Where `embeddings` begin, in scalars from the beginning of the workspace: may be outside of it."""
    if head.external:
        return (start - np.int64(ws.ctypes.data)) // ws.itemsize + t * count * head.d
    return start


@kernel
def inverse_root(ws, square):
    """1 / |x| of |x|^2; 0 below the smallest normal number, NaN at infinity."""
    tiny = 1.1754943508222875e-38 if ws.itemsize == 4 else 2.2250738585072014e-308
    return ws.dtype.type(0.0) if square < tiny else ws.dtype.type(np.sqrt(square) / square)


@kernel
def queries(ws, head, t, block):
    """Logits, losses and both gradients of one block of queries; the gradient of the prototypes is the block's own."""
    m, d = head.m, head.d
    k, kp = head.k, head.kp
    dp = head.dp
    first, last = block * m // head.blocks, (block + 1) * m // head.blocks
    rows, width = last - first, VECTOR_BYTES // ws.itemsize
    padded = d != dp
    given = embeddings(ws, head, head.query, t, m)
    if padded:
        for i in range(first, last):
            for j in range(d):
                ws[head.qp + i * dp + j] = given[i * d + j]
    q = (head.qp if padded else _offset(ws, head, head.query, t, m)) + first * dp
    dq = (head.dqp if padded else _offset(ws, head, head.d_query, t, m)) + first * dp
    x, a = head.x + first * kp, head.a + first * kp
    norms = head.norms + first
    dc, sums = head.dc + block * kp * dp, head.sums + block * kp
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
    ws[head.loss + 1 + block] = loss
    if padded:
        gradient = embeddings(ws, head, head.d_query, t, m)
        for i in range(rows):
            for j in range(d):
                gradient[(first + i) * d + j] = ws[dq + i * dp + j]


@kernel
def _rows(ws, head, t, first, rows, q, dq, x, a, norms, dc, sums):
    """The loss of a few rows of queries, and what they add to the gradients: all of it stays in cache."""
    d, k = head.d, head.k
    kp, dp = head.kp, head.dp
    zeros = head.zeros
    width = VECTOR_BYTES // ws.itemsize
    for i in range(rows):
        s = splat(ws.dtype.type(0.0))
        for j in range(0, dp, width):
            e = load(ws, q + i * dp + j) - load(ws, head.mean + j)
            s = s + e * e
        ws[norms + i] = total(s)
    product(ws, rows, kp, 1, d, q, dp, 1, 0, head.ct, kp, 0, x, kp, zeros, 0, 1.0, False)
    loss = _softmax(ws, head, t, first, rows, x, a, norms, sums)
    if head.cosine:
        for i in range(rows):
            s = splat(ws[norms + i])
            for j in range(0, dp, width):
                store(ws, dq + i * dp + j, s * load(ws, q + i * dp + j))
        product(ws, rows, dp, 1, k, a, kp, 1, 0, head.c, dp, 0, dq, dp, dq, dp, 1.0, False)
    else:
        product(ws, rows, dp, 1, k, a, kp, 1, 0, head.c, dp, 0, dq, dp, zeros, 0, 1.0, False)
    product(ws, k, dp, 1, rows, a, 1, kp, 0, q, dp, 0, dc, dp, dc, dp, 1.0, False)
    return loss


@kernel
def _softmax(ws, head, t, first, rows, x, a, norms, sums):
    """z, the loss, a = (p - e) h f / M from the products x; `norms` become the multiples of q in dq (cosine)."""
    m, k = head.m, head.k
    kp, width = head.kp, VECTOR_BYTES // ws.itemsize
    f, b = head.f, head.b
    cosine = head.cosine == 1
    one = ws.dtype.type(1.0)
    share = one / ws.dtype.type(m)
    labels = integers_at(head.y_query, t * m, m)
    logits = array_at(ws, head.logits, t * m * k, m * k if head.logits else 0)
    loss = 0.0
    for i in range(rows):
        row, out = x + i * kp, a + i * kp
        label = labels[first + i]
        h = inverse_root(ws, ws[norms + i]) if cosine else one
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
