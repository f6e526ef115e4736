"""What happens to whole parameter vectors: into the workspace and out of it, inner steps, gradients of the rates."""

from __future__ import annotations

from fastmeta_kernels.cpu.layout.instruction import (  # fmt: skip
    ARGUMENTS,
    DESCEND,
    MULTIPLY,
    OWN,
    PARAMETERS,
    RATE_ROW,
    SERIAL,
    SIGN,
    Code,
    place,
    share,
)
from fastmeta_kernels.cpu.layout.instruction import RATES as RATES_OP
from fastmeta_kernels.cpu.layout.job import EDGES, RATES, RATES_GRADIENTS, stream
from fastmeta_kernels.cpu.layout.network import Plan
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


def move(code: Code, plan: Plan, which: int, operand: int, direction: int, a_step: int = 0) -> None:
    """Emit the way of theta-like values between a stream and their packed place; ADD adds them, times the sign.

    a_step: distance in the stream from one row of rates to the next.
    """
    for block in plan.blocks:
        target, (pixels, c, o), (t0, t1, t2) = operand + 8 * block.packed_start, block.shape, block.strides
        if o == 1:  # a column is as good as a row
            c, o, t2 = o, c, t1
        arguments = which, block.start, target, pixels, c, o, t0, t1, t2, direction, a_step
        code.add(PARAMETERS, OWN, *arguments)


def clear(code: Code, plan: Plan, target: int) -> None:
    """Emit target = 0 with its padding, where 0 times an infinity of the task before may have left a NaN."""
    descend(code, plan, 1, (0, 0), -1, 0, target, -1)


def add(code: Code, plan: Plan, target: int, source: int) -> None:
    """Emit target += sign * source."""
    descend(code, plan, 0, (0, plan.packed), target, source, target, -1)


def descend(
    code: Code, plan: Plan, rates: int, adapted: tuple[int, int], base: int, source: int, target: int, packed_rates: int
) -> None:
    """Emit target = base + sign * m * alpha * source; base -1 stands for zeros.

    rates: how many alphas, 0 for 1; packed_rates: where one for each parameter lies, or -1.
    """
    code.add(DESCEND, OWN, base, source, target, *adapted, plan.packed, rates, packed_rates, len(plan.edges))


def rates_gradient(code: Code, plan: Plan, rates: int, adapted: tuple[int, int], g: int, v: int) -> None:
    """Emit d L / d alpha -= m * g * v, summed over whatever shares a rate."""
    code.add(RATES_OP, SERIAL, g, v, *adapted, plan.packed, rates, len(plan.edges))


def multiply(code: Code, plan: Plan, adapted: tuple[int, int], g: int, v: int, target: int) -> None:
    """Emit target = m * g * v."""
    code.add(MULTIPLY, SERIAL, g, v, target, *adapted, plan.packed)


@kernel
def run_move(ws, job, code, l, schedule, r, t, part, parts):
    """One part of PARAMETERS."""
    width = VECTOR_BYTES // ws.itemsize
    a = ARGUMENTS
    pixels, c, o = code[l, a + 3], code[l, a + 4], code[l, a + 5]
    t0, t1, t2, direction = code[l, a + 6], code[l, a + 7], code[l, a + 8], code[l, a + 9]
    start = code[l, a + 1] + schedule[r, RATE_ROW] * code[l, a + 10]
    values = stream(ws, job, code[l, a], t, start + pixels * c * o)
    base, sign = place(schedule, r, code[l, a + 2]), ws.dtype.type(schedule[r, SIGN])
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
def run_descend(ws, job, code, l, schedule, r, t, part, parts):
    """One part of DESCEND; whatever is not adapted is copied, or zero without a base."""
    width = VECTOR_BYTES // ws.itemsize
    a = ARGUMENTS
    base, source, target = code[l, a], place(schedule, r, code[l, a + 1]), place(schedule, r, code[l, a + 2])
    adapted_from, adapted_to, size, count = code[l, a + 3], code[l, a + 4], code[l, a + 5], code[l, a + 6]
    packed_rates, arrays = code[l, a + 7], code[l, a + 8]
    sign, zero, has_base = ws.dtype.type(schedule[r, SIGN]), splat(ws.dtype.type(0.0)), base >= 0
    base = place(schedule, r, base) if has_base else 0
    first, last = share(size // width, part, parts)
    first, last = first * width, last * width
    if adapted_from > 0 or adapted_to < size:
        for i in range(first, last, width):
            if not adapted_from <= i < adapted_to:
                store(ws, target + i, load(ws, base + i) if has_base else zero)
    if packed_rates >= 0:
        rates_at, signs = place(schedule, r, packed_rates), splat(sign)
        for i in range(max(first, adapted_from), min(last, adapted_to), width):
            step = signs * load(ws, rates_at + i) * load(ws, source + i)
            store(ws, target + i, load(ws, base + i) + step if has_base else step)
        return
    edges = stream(job, job, EDGES, t, arrays)
    row = schedule[r, RATE_ROW] * count
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
def run_rates_gradient(ws, job, code, l, schedule, r, t):
    """RATES."""
    width = VECTOR_BYTES // ws.itemsize
    a = ARGUMENTS
    g, v = place(schedule, r, code[l, a]), place(schedule, r, code[l, a + 1])
    start, stop, size, count = code[l, a + 2], code[l, a + 3], code[l, a + 4], code[l, a + 5]
    edges = stream(job, job, EDGES, t, code[l, a + 6])
    row = schedule[r, RATE_ROW] * count
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
def run_multiply(ws, code, l, schedule, r):
    """MULTIPLY."""
    width = VECTOR_BYTES // ws.itemsize
    a = ARGUMENTS
    g, v, target = (
        place(schedule, r, code[l, a]),
        place(schedule, r, code[l, a + 1]),
        place(schedule, r, code[l, a + 2]),
    )
    zero = splat(ws.dtype.type(0.0))
    for i in range(0, code[l, a + 5], width):
        inside = code[l, a + 3] <= i < code[l, a + 4]
        store(ws, target + i, load(ws, g + i) * load(ws, v + i) if inside else zero)
