"""Winograd's small products of phases carried out, of stride 2: a block of images is transformed, multiplied and back.

Each thread has a panel of its own for a block's values. Those that meet one weight along rows lie side by side and make
the rows of one product; in a weight's gradient those along columns are its outer level of sums.
"""

from __future__ import annotations

from fastmeta_kernels.cpu.layers.winograd.images import from_weight, outputs, to_weight, values
from fastmeta_kernels.cpu.layout.instruction import (
    PHASES,
    PHASES_GRADIENT,
    PHASES_SUMS,
    PHASES_WEIGHT,
    one,
    place,
    share,
    vectors,
)
from fastmeta_kernels.cpu.layout.layer import CACHE_LINE
from fastmeta_kernels.cpu.layout.winograd import PHASE_VALUES, PHASE_WEIGHTS, SCHEMES, VALUES
from fastmeta_kernels.cpu.machine.jit import kernel
from fastmeta_kernels.cpu.machine.product import product
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES

ZEROS = 0  # the start of a workspace


@kernel
def _panel(job, it, part):
    """Where this part's panel begins: values on their way, then those of a block."""
    return job.workspace_size + (part - 1) * it.panel


@kernel
def _block(it, count):
    """Images that are transformed at a time where a part or a partial sum has `count`."""
    most = max(1, PHASE_VALUES // (VALUES[it.scheme_y] * VALUES[it.scheme_x]))
    blocks = max(1, (count + most - 1) // most)
    return max(1, (count + blocks - 1) // blocks)


@kernel
def run_convolve(ws, job, code, l, now, part, parts):
    """One part of PHASES: a share of the tiles or images, block by block."""
    it = one(PHASES, code, l)
    x, x2 = place(now, it.x), place(now, it.x2)
    u, u2 = place(now, it.u), place(now, it.u2)
    bias, y = place(now, it.bias), place(now, it.y)
    pair, relu = it.x2 != 0, it.relu != 0
    back = it.back != 0
    c, o = (it.ocp, it.cp) if back else (it.cp, it.ocp)
    high, row = VALUES[it.scheme_y], VALUES[it.scheme_x]
    temporary = _panel(job, it, part)
    v, apart = temporary + high * row * max(c, o), CACHE_LINE // ws.itemsize
    alpha, pairs = ws.dtype.type(1.0), 2 if pair else 1
    low, end = share(it.n, part, parts)
    block = _block(it, end - low)
    for first in range(low, end, block):
        n = min(block, end - first)
        v_plane, m_plane = n * c, n * o
        v_line, m_line = row * v_plane + apart, row * m_plane + apart  # apart: they do not share sets of the cache
        m, step = v + high * pairs * v_line, pairs * v_line
        values(ws, it, back, first, n, x, c, temporary, v, v_plane, step)
        if pair:
            values(ws, it, back, first, n, x2, c, temporary, v + v_line, v_plane, step)
        line = 0
        for i in range(PHASE_WEIGHTS):
            lines, at = SCHEMES[it.scheme_y, i], 0
            for j in range(PHASE_WEIGHTS):
                planes, b = SCHEMES[it.scheme_x, j], u + (i * PHASE_WEIGHTS + j) * c * o
                rows = n * planes
                for k in range(line, line + lines):
                    a, to = v + k * step + at * v_plane, m + k * m_line + at * m_plane
                    product(ws, rows, o, pairs, c, a, c, 1, v_line, b, o, u2 - u, to, o, ZEROS, 0, alpha, False)
                at += planes
            line += lines
        outputs(ws, it, back, first, n, m, m_plane, m_line, o, temporary, y, bias, relu)


@kernel
def run_sums(ws, job, code, l, now, part, parts):
    """One part of PHASES_SUMS: products over tiles, or images, for some channels where threads are many."""
    it = one(PHASES_SUMS, code, l)
    x, x2 = place(now, it.x), place(now, it.x2)
    dy, dy2 = place(now, it.dy), place(now, it.dy2)
    pair, count = it.x2 != 0, it.parts
    c, o = it.cp, it.ocp
    high, row = VALUES[it.scheme_y], VALUES[it.scheme_x]
    temporary = _panel(job, it, part)
    v, apart = temporary + high * row * max(c, o), CACHE_LINE // ws.itemsize
    alpha, pairs = ws.dtype.type(1.0), 2 if pair else 1
    width, frequencies = VECTOR_BYTES // ws.itemsize, PHASE_WEIGHTS * PHASE_WEIGHTS
    slabs = min((parts + count - 1) // count, c // width)
    begin, end = share(count * slabs, part, parts)
    for unit in range(begin, end):
        first_c, last_c = share(c // width, unit % slabs, slabs)
        depth, first_c = (last_c - first_c) * width, first_c * width
        sums = it.sums + unit // slabs * frequencies * c * o + first_c * o
        low, last = share(it.n, unit // slabs, count)
        block = _block(it, last - low)
        for first in range(low, last, block):
            n = min(block, last - first)
            v_plane, m_plane = n * depth, n * o
            v_line, m_line = row * v_plane + apart, row * m_plane + apart
            v_step, m_step = pairs * v_line, pairs * m_line
            m = v + high * v_step
            at, of = x + first_c, x2 + first_c
            values(ws, it, False, first, n, at, depth, temporary, v, v_plane, v_step)
            values(ws, it, True, first, n, dy, o, temporary, m, m_plane, m_step)
            if pair:
                v2, m2 = v + v_line, m + m_line
                values(ws, it, False, first, n, of, depth, temporary, v2, v_plane, v_step)
                values(ws, it, True, first, n, dy2, o, temporary, m2, m_plane, m_step)
            line = 0
            for i in range(PHASE_WEIGHTS):
                lines, at = SCHEMES[it.scheme_y, i], 0
                k1 = lines * pairs
                for j in range(PHASE_WEIGHTS):
                    planes, to = SCHEMES[it.scheme_x, j], sums + (i * PHASE_WEIGHTS + j) * c * o
                    a, b = v + line * v_step + at * v_plane, m + line * m_step + at * m_plane
                    rows = n * planes
                    d, ldd = (to, o) if first > low else (ZEROS, 0)
                    product(ws, depth, o, k1, rows, a, 1, depth, v_line, b, o, m_line, to, o, d, ldd, alpha, False)
                    at += planes
                line += lines


@kernel
def run_weight(ws, job, code, l, now, part, parts):
    """One part of PHASES_WEIGHT: some vectors of (c o)."""
    it = one(PHASES_WEIGHT, code, l)
    first, last = vectors(ws, it.cp * it.ocp, part, parts)
    a, out = place(now, it.a), place(now, it.out)
    from_weight(ws, a, out, it.cp * it.ocp, first, last, _panel(job, it, part))


@kernel
def run_gradient(ws, job, code, l, now, part, parts):
    """One part of PHASES_GRADIENT."""
    it = one(PHASES_GRADIENT, code, l)
    first, last = vectors(ws, it.cp * it.ocp, part, parts)
    out, size = place(now, it.out), it.cp * it.ocp
    sign, temporary = ws.dtype.type(now.sign), _panel(job, it, part)
    to_weight(ws, it.sums, it.parts, out, size, first, last, temporary, it.add != 0, sign)
