"""The prototype head of a task, fused: class means, similarities, softmax, loss and both gradients in one pass.

With prototypes c_k = m + c'_k (m their mean, or 0 for the cosine) a logit is z = h_q f_k q . c'_k - b_k, but for what
all classes share: h = 1, f = 2, b = |c'|^2 + 2 m . c' for -|q - c|^2; h = 1 / |q|, f = scale / |c|, b = 0 for the
cosine. With a = (p - e) h f / M the gradients are products with the same matrices, dq = a c' and dc = a^T q, and a
multiple of q and c. Queries are split into blocks by size alone: threads can share a task without changing a bit.
"""

from __future__ import annotations

import numpy as np

from fastmeta_kernels.cpu.layout.instruction import HEAD, HEAD_BLOCKS, OWN, SERIAL, Code, one, share
from fastmeta_kernels.cpu.layout.job import HEAD as HEAD_STREAM
from fastmeta_kernels.cpu.layout.job import QUERY_LOSSES, array_at, integers, integers_at, stream
from fastmeta_kernels.cpu.layout.prototypes import FIELDS, head_of
from fastmeta_kernels.cpu.losses.prototype_queries import embeddings, inverse_root, queries
from fastmeta_kernels.cpu.machine.between_lanes import transpose
from fastmeta_kernels.cpu.machine.jit import kernel, linked
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES, load, splat, store, total

PREPARE, BLOCK, FINISH = range(3)


@kernel
def _prepare(ws, head, t):
    """Prototypes, centred, also transposed, with their norms: all that the queries need of the support set."""
    n, k = head.n, head.k
    d, kp = head.d, head.kp
    dp = head.dp
    c, mean = head.c, head.mean
    share, width = head.share, VECTOR_BYTES // ws.itemsize
    one, zero = ws.dtype.type(1.0), ws.dtype.type(0.0)
    whole = d - d % width
    support = embeddings(ws, head, head.support, t, n)
    labels = integers_at(head.y_support, t * n, n)
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
    if not head.cosine:
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
            transpose(ws, c + i * dp + j, dp, ws, head.ct + j * kp + i, kp)
    _scale_prototypes(ws, head)


@kernel
def _scale_prototypes(ws, head):
    """f, b and the weight of c in dc; padding classes have a logit that no softmax sees."""
    k, kp = head.k, head.kp
    dp, width = head.dp, VECTOR_BYTES // ws.itemsize
    f, b = head.f, head.b
    weight, cosine = head.weight, head.cosine == 1
    scale = array_at(ws, head.scale, 0, 1)[0]
    two = splat(ws.dtype.type(2.0))
    for i in range(k):
        s = splat(ws.dtype.type(0.0))
        for j in range(0, dp, width):
            x = load(ws, head.c + i * dp + j)
            s = s + x * (x + two * load(ws, head.mean + j))
        square = total(s)
        inverse = inverse_root(ws, square) if cosine else ws.dtype.type(1.0)
        ws[f + i] = scale * inverse if cosine else ws.dtype.type(2.0)
        ws[b + i] = ws.dtype.type(0.0) if cosine else square
        ws[weight + i] = inverse * inverse
    for i in range(k, kp):
        ws[b + i] = ws.dtype.type(1e30 if cosine else np.inf)


@kernel
def _finish(ws, head, t):
    """The loss, and the gradients of the prototypes from those of the blocks, dealt out to the support set."""
    n, k = head.n, head.k
    d, kp = head.d, head.kp
    dp = head.dp
    dc, sums = head.dc, head.sums
    width = VECTOR_BYTES // ws.itemsize
    whole = d - d % width
    loss = 0.0
    for block in range(head.blocks):
        loss += ws[head.loss + 1 + block]
    ws[head.loss] = loss / head.m
    for i in range(k):
        weight = ws.dtype.type(0.0)
        for block in range(head.blocks):
            weight -= ws[sums + block * kp + i]
        multiple, share = splat(weight * ws[head.weight + i]), splat(ws[head.share + i])
        for j in range(0, dp, width):
            s = multiple * (load(ws, head.c + i * dp + j) + load(ws, head.mean + j))
            for block in range(head.blocks):
                s = s + load(ws, dc + (block * kp + i) * dp + j)
            store(ws, dc + i * dp + j, share * s)
    gradient = embeddings(ws, head, head.d_support, t, n)
    labels = integers_at(head.y_support, t * n, n)
    for i in range(n):
        row = dc + labels[i] * dp
        for j in range(0, whole, width):
            store(gradient, i * d + j, load(ws, row + j))
        for j in range(whole, d):
            gradient[i * d + j] = ws[row + j]


@linked
def phase(ws, heads, t, which, block):
    """One phase of the head of task t: before, within or behind the blocks of queries."""
    head = head_of(heads, 0)
    if which == PREPARE:
        _prepare(ws, head, t)
    elif which == BLOCK:
        queries(ws, head, t, block)
    else:
        _finish(ws, head, t)


def emit(code: Code) -> None:
    """The head as instructions, over outputs in a workspace; its fields lie in a stream of their own."""
    code.add(HEAD, SERIAL, phase=PREPARE)
    code.add(HEAD_BLOCKS, OWN)
    code.add(HEAD, SERIAL, phase=FINISH)


@kernel
def _heads(job, t):
    return integers(job, HEAD_STREAM, t, (1, FIELDS))


@kernel
def run_blocks(ws, job, t, part, parts):
    """One part of HEAD_BLOCKS."""
    heads = _heads(job, t)
    first, last = share(head_of(heads, 0).blocks, part, parts)
    for block in range(first, last):
        phase(ws, heads, t, BLOCK, block)


@kernel
def run_phase(ws, job, code, l, t):
    """HEAD: before or behind the blocks; then the loss goes to its stream."""
    heads, which = _heads(job, t), one(HEAD, code, l).phase
    phase(ws, heads, t, which, 0)
    if which == FINISH:
        out = stream(ws, job, QUERY_LOSSES, t, 1)
        out[0] = ws[head_of(heads, 0).loss]
