"""What happens to whole parameter vectors: into the workspace and out of it, inner steps, gradients of the rates.

Longer than 200 lines because whatever walks the parameter arrays does so by one record.
"""

from __future__ import annotations

from fastmeta_kernels.cpu.layout.instruction import (  # fmt: skip
    DESCEND,
    MULTIPLY,
    NONE,
    OWN,
    PARAMETERS,
    SERIAL,
    Code,
    Operand,
    one,
    place,
    share,
)
from fastmeta_kernels.cpu.layout.instruction import RATES as RATES_OP
from fastmeta_kernels.cpu.layout.job import EDGES, RATES, RATES_GRADIENTS, integers, stream
from fastmeta_kernels.cpu.layout.network import Plan
from fastmeta_kernels.cpu.layout.packing import Block
from fastmeta_kernels.cpu.machine.jit import kernel
from fastmeta_kernels.cpu.machine.vector import (
    VECTOR_BYTES,
    doubled,
    load,
    load_first,
    load_like,
    splat,
    store,
    store_first,
    total,
)

LOAD, STORE, ADD = range(3)
BLOCK = 4096  # scalars summed in one vector before the parts are added: keeps float32 dot products accurate


def move(code: Code, blocks: tuple[Block, ...], stream: int, to: Operand, direction: int, by_row: int = 0) -> None:
    """Emit the way of theta-like values between a stream and their packed place; ADD adds them, times the sign.

    by_row: distance in the stream from one row of rates to the next.
    """
    for block in blocks:
        pixels, c, o = block.shape
        by_pixel, by_input, by_output = block.strides
        if o == 1:  # a column is as good as a row
            c, o = o, c
            by_output = by_input
        code.add(
            PARAMETERS, OWN, stream=stream, start=block.start, packed=to.behind(block.packed_start), pixels=pixels,
            inputs=c, outputs=o, by_pixel=by_pixel, by_input=by_input, by_output=by_output, direction=direction,
            by_row=by_row,
        )  # fmt: skip


def clear(code: Code, plan: Plan, target: Operand) -> None:
    """Emit target = 0 with its padding, where 0 times an infinity of the task before may have left a NaN."""
    descend(code, plan, 1, (0, 0), NONE, NONE, target, NONE)


def add(code: Code, plan: Plan, target: Operand, source: Operand) -> None:
    """Emit target += sign * source."""
    descend(code, plan, 0, (0, plan.packed), target, source, target, NONE)


def descend(
    code: Code,
    plan: Plan,
    rates: int,
    adapted: tuple[int, int],
    base: Operand,
    source: Operand,
    target: Operand,
    packed_rates: Operand,
) -> None:
    """Emit target = base + sign * m * alpha * source; no base stands for zeros.

    rates: how many alphas, 0 for 1; packed_rates: where one for each parameter lies, if there are so many.
    """
    code.add(
        DESCEND, OWN, base=base, source=source, target=target, adapted_from=adapted[0], adapted_to=adapted[1],
        size=plan.packed, rates=rates, packed_rates=packed_rates, arrays=len(plan.edges),
    )  # fmt: skip


def rates_gradient(code: Code, plan: Plan, rates: int, adapted: tuple[int, int], g: Operand, v: Operand) -> None:
    """Emit d L / d alpha -= m * g * v, summed over whatever shares a rate."""
    code.add(
        RATES_OP, SERIAL, g=g, v=v, adapted_from=adapted[0], adapted_to=adapted[1], size=plan.packed, rates=rates,
        arrays=len(plan.edges),
    )  # fmt: skip


def multiply(code: Code, plan: Plan, adapted: tuple[int, int], g: Operand, v: Operand, target: Operand) -> None:
    """Emit target = m * g * v."""
    moved = {"adapted_from": adapted[0], "adapted_to": adapted[1]}
    code.add(MULTIPLY, SERIAL, g=g, v=v, target=target, **moved, size=plan.packed)


@kernel
def run_move(ws, job, code, l, now, t, part, parts):
    """One part of PARAMETERS."""
    it, width = one(PARAMETERS, code, l), VECTOR_BYTES // ws.itemsize
    pixels, c = it.pixels, it.inputs
    o, direction = it.outputs, it.direction
    t0, t1 = it.by_pixel, it.by_input
    t2 = it.by_output
    start = it.start + now.rate_row * it.by_row
    values = stream(ws, job, it.stream, t, start + pixels * c * o)
    base, sign = place(now, it.packed), ws.dtype.type(now.sign)
    signs = splat(sign)
    low, high = share(pixels * c, part, parts)
    for row in range(low, high):
        at, to = start + row * o, base + row // c * t0 + row % c * t1
        if t2 != 1:
            for j in range(o):
                if direction == LOAD:
                    ws[to + j * t2] = values[at + j]
                elif direction == STORE:
                    values[at + j] = ws[to + j * t2]
                else:
                    values[at + j] += sign * ws[to + j * t2]
            continue
        for j in range(0, o, width):
            count = min(o - j, width)
            if direction == LOAD:
                store(ws, to + j, load_first(values, at + j, count))
            elif direction == STORE:
                store_first(values, at + j, load(ws, to + j), count)
            else:
                more = load_first(values, at + j, count) + signs * load(ws, to + j)
                store_first(values, at + j, more, count)


@kernel
def run_descend(ws, job, code, l, now, t, part, parts):
    """One part of DESCEND; whatever is not adapted is copied, or zero without a base."""
    it, width = one(DESCEND, code, l), VECTOR_BYTES // ws.itemsize
    source, target = place(now, it.source), place(now, it.target)
    adapted_from, adapted_to = it.adapted_from, it.adapted_to
    size, count = it.size, it.rates
    sign, zero = ws.dtype.type(now.sign), splat(ws.dtype.type(0.0))
    has_base = it.base != 0
    base = place(now, it.base)
    first, last = share(size // width, part, parts)
    first, last = first * width, last * width
    if adapted_from > 0 or adapted_to < size:
        for i in range(first, last, width):
            if not adapted_from <= i < adapted_to:
                store(ws, target + i, load(ws, base + i) if has_base else zero)
    if it.packed_rates != 0:
        rates_at, signs = place(now, it.packed_rates), splat(sign)
        for i in range(max(first, adapted_from), min(last, adapted_to), width):
            step = signs * load(ws, rates_at + i) * load(ws, source + i)
            store(ws, target + i, load(ws, base + i) + step if has_base else step)
        return
    edges = integers(job, EDGES, t, it.arrays)
    row = now.rate_row * count
    rates = stream(ws, job, RATES, t, row + count)
    for p in range(max(count, 1)):
        low, high = (0, size) if count <= 1 else (edges[p], edges[p + 1])
        low, high = max(low, max(first, adapted_from)), min(high, min(last, adapted_to))
        factor = splat(sign * rates[row + p] if count > 0 else sign)
        if has_base:
            wide, wide_factor = low + max(high - low, 0) // (4 * width) * (4 * width), doubled(doubled(factor))
            for i in range(low, wide, 4 * width):
                step = wide_factor * load_like(ws, source + i, wide_factor)
                store(ws, target + i, load_like(ws, base + i, wide_factor) + step)
            for i in range(wide, high, width):
                store(ws, target + i, load(ws, base + i) + factor * load(ws, source + i))
        else:
            for i in range(low, high, width):
                store(ws, target + i, factor * load(ws, source + i))


@kernel
def run_rates_gradient(ws, job, code, l, now, t):
    """RATES."""
    it, width = one(RATES_OP, code, l), VECTOR_BYTES // ws.itemsize
    g, v = place(now, it.g), place(now, it.v)
    start, stop = it.adapted_from, it.adapted_to
    size, count = it.size, it.rates
    edges = integers(job, EDGES, t, it.arrays)
    row = now.rate_row * count
    out = stream(ws, job, RATES_GRADIENTS, t, row + count)
    for p in range(count):
        low, high = (0, size) if count == 1 else (edges[p], edges[p + 1])
        low, high = max(low, start), min(high, stop)
        whole = ws.dtype.type(0.0)
        for block in range(low, high, BLOCK):
            s = splat(ws.dtype.type(0.0))
            for i in range(block, min(block + BLOCK, high), width):
                s = s + load(ws, g + i) * load(ws, v + i)
            whole += total(s)
        out[row + p] -= whole


@kernel
def run_multiply(ws, code, l, now):
    """MULTIPLY."""
    it, width = one(MULTIPLY, code, l), VECTOR_BYTES // ws.itemsize
    g, v = place(now, it.g), place(now, it.v)
    target = place(now, it.target)
    zero = splat(ws.dtype.type(0.0))
    for i in range(0, it.size, width):
        inside = it.adapted_from <= i < it.adapted_to
        store(ws, target + i, load(ws, g + i) * load(ws, v + i) if inside else zero)
