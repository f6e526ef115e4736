"""Samples and parameter vectors of tasks in lanes: into the workspace, inner steps, and sums over lanes out of it."""

from __future__ import annotations

from fastmeta_kernels.cpu.layout.instruction import (  # fmt: skip
    DESCEND,
    INPUT,
    MULTIPLY,
    PARAMETERS,
    RATES,
    one,
    place,
)
from fastmeta_kernels.cpu.layout.job import (
    EDGES,
    RATES_GRADIENTS,
    array_at,
    integers,
    lane_address,
    stream,
)
from fastmeta_kernels.cpu.layout.job import RATES as RATES_STREAM
from fastmeta_kernels.cpu.machine.between_lanes import totals, transpose
from fastmeta_kernels.cpu.machine.jit import kernel
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES, load, splat, store, total
from fastmeta_kernels.cpu.program.parameters import LOAD


@kernel
def run_input(ws, job, code, l, now, t):
    """INPUT: the samples of each lane's task; squares of as many values as lanes are transposed in registers."""
    it, width = one(INPUT, code, l), VECTOR_BYTES // ws.itemsize
    target, count = place(now, it.x) * width, it.n * it.c
    done = 0
    if (t + 1) * width <= job.batch:
        first, step = lane_address(job, it.stream, t, 0, width), job.streams[it.stream, 1] // ws.itemsize
        done = count // width * width
        values = array_at(ws, first, 0, (width - 1) * step + count)
        for i in range(0, done, width):
            transpose(values, i, step, ws, target + i * width, width)
    for lane in range(width):
        values = array_at(ws, lane_address(job, it.stream, t, lane, width), 0, count)
        for i in range(done, count):
            ws[target + i * width + lane] = values[i]


@kernel
def run_move(ws, job, code, l, now, t):
    """PARAMETERS, which lie as in theta: the same values to all lanes, or added to a stream, summed over lanes."""
    it, width = one(PARAMETERS, code, l), VECTOR_BYTES // ws.itemsize
    count, start = it.pixels * it.inputs * it.outputs, it.start + now.rate_row * it.by_row
    values = stream(ws, job, it.stream, t, start + count)[start:]
    at, sign = place(now, it.packed) * width, ws.dtype.type(now.sign)
    if it.direction == LOAD:
        for i in range(count):
            store(ws, at + i * width, splat(values[i]))
        return
    whole = count // width * width
    for i in range(0, whole, width):
        store(values, i, load(values, i) + splat(sign) * totals(ws, at + i * width))
    for i in range(whole, count):
        values[i] += sign * total(load(ws, at + i * width))


@kernel
def run_descend(ws, job, code, l, now, t):
    """DESCEND; whatever is not adapted is copied, or zero without a base."""
    it, width = one(DESCEND, code, l), VECTOR_BYTES // ws.itemsize
    source, target = place(now, it.source), place(now, it.target)
    count, base = it.rates, place(now, it.base)
    size, has_base = it.size, it.base != 0
    each, rates_at = it.packed_rates != 0, place(now, it.packed_rates)
    zero, sign = splat(ws.dtype.type(0.0)), ws.dtype.type(now.sign)
    edges, row = integers(job, EDGES, t, it.arrays), now.rate_row * count
    rates = stream(ws, job, RATES_STREAM, t, row + count)
    for p in range(max(count, 1) if not each else 1):
        low, high = (0, size) if count <= 1 or each else (edges[p], edges[p + 1])
        factor = splat(sign * rates[row + p] if count > 0 and not each else sign)
        for i in range(low, high):
            value = load(ws, (base + i) * width) if has_base else zero
            if it.adapted_from <= i < it.adapted_to:
                step = factor * load(ws, (source + i) * width)
                value = value + (step * load(ws, (rates_at + i) * width) if each else step)
            store(ws, (target + i) * width, value)


@kernel
def run_rates_gradient(ws, job, code, l, now, t):
    """RATES."""
    it, width = one(RATES, code, l), VECTOR_BYTES // ws.itemsize
    g, v = place(now, it.g), place(now, it.v)
    edges, count = integers(job, EDGES, t, it.arrays), it.rates
    row = now.rate_row * count
    out = stream(ws, job, RATES_GRADIENTS, t, row + count)
    for p in range(count):
        low, high = (0, it.size) if count == 1 else (edges[p], edges[p + 1])
        s = splat(ws.dtype.type(0.0))
        for i in range(max(low, it.adapted_from), min(high, it.adapted_to)):
            s = s + load(ws, (g + i) * width) * load(ws, (v + i) * width)
        out[row + p] -= total(s)


@kernel
def run_multiply(ws, code, l, now):
    """MULTIPLY."""
    it, width = one(MULTIPLY, code, l), VECTOR_BYTES // ws.itemsize
    g, v = place(now, it.g), place(now, it.v)
    target, zero = place(now, it.target), splat(ws.dtype.type(0.0))
    for i in range(it.size):
        inside = it.adapted_from <= i < it.adapted_to
        value = load(ws, (g + i) * width) * load(ws, (v + i) * width) if inside else zero
        store(ws, (target + i) * width, value)
