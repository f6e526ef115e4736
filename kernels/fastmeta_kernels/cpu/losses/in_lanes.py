"""Squared error, cross-entropy and Huber's loss of tasks in lanes, with the equations of `losses`.

Targets, labels and sample weights come a lane at a time to where deltas are written next. In a lane without a task the
query loss has no delta, so that nothing of it is in any sum.
"""

from __future__ import annotations

from fastmeta_kernels.cpu.layout.instruction import LOSS, LOSS_TANGENT, one, place
from fastmeta_kernels.cpu.layout.job import (
    QUERY_LOSSES,
    RATES_GRADIENTS,
    array_at,
    integers_at,
    lane_address,
    stream,
)
from fastmeta_kernels.cpu.machine.between_lanes import lane_of, ones_before
from fastmeta_kernels.cpu.machine.exponential import exp, log, quotient
from fastmeta_kernels.cpu.machine.jit import inlined, kernel
from fastmeta_kernels.cpu.machine.selection import where_above, where_equal
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES, load, maximum, splat, store, total
from fastmeta_kernels.layer_table import CROSS_ENTROPY, HUBER


@kernel
def _gather(ws, job, which, t, start, count, to, step, labels):
    """ws[to + i step] = value start + i of a stream for the task of each lane."""
    width = VECTOR_BYTES // ws.itemsize
    for lane in range(width):
        address, at = lane_address(job, which, t, lane, width), to * width + lane
        if labels:
            numbers = integers_at(address, 0, start + count)
            for i in range(count):
                ws[at + i * step * width] = numbers[start + i]
        else:
            values = array_at(ws, address, 0, start + count)
            for i in range(count):
                ws[at + i * step * width] = values[start + i]


@kernel
def _share(ws, job, it, t, start, i, scale, at):
    """w_n times a scale, for sample i; its weights pass through vector `at`."""
    if it.weighted == 0:
        return scale
    _gather(ws, job, it.weights, t, start + i, 1, at, 1, False)
    return load(ws, at * (VECTOR_BYTES // ws.itemsize)) * scale


@inlined
def run(ws, job, code, l, now, t):
    """LOSS: the loss of a set to its stream, and the deltas of the outputs."""
    it, width = one(LOSS, code, l), VECTOR_BYTES // ws.itemsize
    n, o = it.n, it.outputs
    k, kind = now.inner_step, it.loss
    z, dz = place(now, it.z), place(now, it.dz)
    p = place(now, it.probabilities)
    live = splat(ws.dtype.type(1.0))
    if it.losses == QUERY_LOSSES:
        live = ones_before(live, job.batch - t * width)
    by_label = kind == CROSS_ENTROPY
    _gather(ws, job, it.targets, t, 0, n if by_label else n * o, dz, o if by_label else 1, by_label)
    scale = splat(ws.dtype.type(1.0 / (n if by_label else n * o)))
    loss = splat(ws.dtype.type(0.0))
    for i in range(n):
        row = i * o * width
        label = load(ws, dz * width + row)
        w = _share(ws, job, it, t, k * it.by_step, i, scale, p + i * o)
        if by_label:
            loss = loss + w * _cross_entropy(ws, o, z * width + row, label, dz * width + row, p * width + row, w * live)
            continue
        for j in range(row, row + o * width, width):
            e = load(ws, z * width + j) - load(ws, dz * width + j)
            if kind == HUBER:
                loss = loss + w * _huber(
                    ws, e, splat(ws.dtype.type(it.constant)), dz * width + j, p * width + j, w * live
                )
            else:
                loss = loss + w * e * e
                store(ws, dz * width + j, (w + w) * e * live)
    last = min(width, job.batch - t * width)
    for lane in range(last):
        array_at(ws, lane_address(job, it.losses, t, lane, width), 0, k + 1)[k] = lane_of(loss, lane)


@kernel
def _cross_entropy(ws, o, z, label, dz, p, w):
    """log sum_j exp z_j - z_label; p = softmax(z), dz = w (p - onehot)."""
    width = VECTOR_BYTES // ws.itemsize
    top = load(ws, z)
    for j in range(width, o * width, width):
        top = maximum(top, load(ws, z + j))
    zero, one = splat(ws.dtype.type(0.0)), splat(ws.dtype.type(1.0))
    mass, hit = zero, zero
    for j in range(0, o * width, width):
        e = exp(load(ws, z + j) - top)
        store(ws, p + j, e)
        mass = mass + e
    inverse = quotient(one, mass)
    number = zero
    for j in range(0, o * width, width):
        share = load(ws, p + j) * inverse
        is_label = where_equal(label, number, one, zero)
        hit = hit + where_equal(label, number, load(ws, z + j), zero)
        store(ws, p + j, share)
        store(ws, dz + j, w * (share - is_label))
        number = number + one
    return log(mass) + (top - hit)


@kernel
def _huber(ws, e, delta, dz, curvature, w):
    """h(e) = e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2); w h' to dz and w h'' to where curvature lies."""
    zero, half = splat(ws.dtype.type(0.0)), splat(ws.dtype.type(0.5))
    size = maximum(e, zero - e)
    store(ws, dz, w * where_above(size, delta, where_above(e, zero, delta, zero - delta), e))
    store(ws, curvature, where_above(size, delta, zero, w))
    return where_above(size, delta, delta * (size - half * delta), half * e * e)


@inlined
def run_tangent(ws, job, code, l, now, t):
    """LOSS_TANGENT: tangents of the deltas of the outputs, after the outputs' own."""
    it, width = one(LOSS_TANGENT, code, l), VECTOR_BYTES // ws.itemsize
    n, o = it.n, it.outputs
    z_dot, dz_dot = place(now, it.z) * width, place(now, it.dz) * width
    p, kind = place(now, it.probabilities) * width, it.loss
    if it.by_step > 0:  # d L / d alpha -= the derivative of the loss along v
        dz, row = place(now, it.last_dz) * width, now.rate_row
        slope = splat(ws.dtype.type(0.0))
        for j in range(0, n * o * width, width):
            slope = slope + load(ws, dz + j) * load(ws, z_dot + j)
        stream(ws, job, RATES_GRADIENTS, t, row + 1)[row] -= total(slope)
    by_label = kind == CROSS_ENTROPY
    scale = splat(ws.dtype.type(1.0 / n if by_label else 2.0 / (n * o)))
    for i in range(n):
        row = i * o * width
        w = scale if kind == HUBER else _share(ws, job, it, t, 0, i, scale, place(now, it.dz) + i * o)
        mean = splat(ws.dtype.type(0.0))
        for j in range(row, row + o * width if by_label else row, width):
            mean = mean + load(ws, p + j) * load(ws, z_dot + j)
        for j in range(row, row + o * width, width):
            value = load(ws, z_dot + j)
            if by_label:
                value = w * load(ws, p + j) * (value - mean)
            else:
                value = value * (load(ws, p + j) if kind == HUBER else w)
            store(ws, dz_dot + j, value)
