"""y = x * W of 3 x 3 taps and stride 1 by Winograd's tiles, as instructions: 36 small products instead of 9 large ones.

A block of tiles is transformed, multiplied frequency by frequency and transformed back before the next one, in a panel
that each thread has for itself; transformed weights stay in their set for the tangents. The gradient of a weight is the
adjoint: 36 products over tiles, summed over fixed parts of them. A tangent is one product of two pairs, as in `linear`.
"""

from __future__ import annotations

from fastmeta_kernels.cpu.layers import convolution
from fastmeta_kernels.cpu.layers.convolution import backward_bias
from fastmeta_kernels.cpu.layers.linear import Row
from fastmeta_kernels.cpu.layers.winograd.tiles import from_image, from_weight, to_image, to_weight
from fastmeta_kernels.cpu.layout.instruction import (
    ARGUMENTS,
    OP,
    OWN,
    SIGN,
    WINOGRAD,
    WINOGRAD_GRADIENT,
    WINOGRAD_SUMS,
    WINOGRAD_WEIGHT,
    Code,
    R,
    S,
    at,
    place,
    share,
)
from fastmeta_kernels.cpu.layout.job import WORKSPACE_SIZE
from fastmeta_kernels.cpu.layout.network import (
    CACHE_LINE,
    CP,
    OCP,
    OH,
    OW,
    PADDING,
    PANEL,
    PARTS,
    SUMS,
    TRANSPOSED,
    X_N,
    X_R,
    Y_N,
    Y_R,
    H,
    N,
    W,
)
from fastmeta_kernels.cpu.layout.winograd import BLOCK, FREQUENCIES, PATCH, TAPS, TILE
from fastmeta_kernels.cpu.machine.jit import kernel
from fastmeta_kernels.cpu.machine.product import product
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES

__all__ = [
    "backward",
    "backward_bias",
    "backward_tangent",
    "backward_weight",
    "backward_weight_tangent",
    "forward",
    "forward_tangent",
    "transpose_weight",
]


def forward(code: Code, row: Row, x: int, w: int, bias: int, y: int, relu: bool = False) -> None:
    """y = x * W + bias."""
    u = _transformed(code, row, w, at(S, row[TRANSPOSED]) + _behind(row, 1))
    _convolve(code, row, (x, 0), (u, 0), bias, y, relu)


def forward_tangent(code: Code, row: Row, x: int, x_dot: int, w: int, w_dot: int, bias_dot: int, y_dot: int) -> None:
    """y_dot = x * W_dot + x_dot * W + bias_dot, after `forward` of the same set."""
    u_dot = _transformed(code, row, w_dot, at(R, row[TRANSPOSED]) + _behind(row, 1))
    _convolve(code, row, (x, x_dot), (u_dot, at(S, row[TRANSPOSED]) + _behind(row, 1)), bias_dot, y_dot)


def transpose_weight(code: Code, row: Row, w: int, t: int) -> None:
    """The transposed taps in falling order, and behind them their transform."""
    convolution.transpose_weight(code, row, w, t)
    _transformed(code, row, t, t + _behind(row, 0))


def backward(code: Code, row: Row, dy: int, t: int, dx: int) -> None:
    """dx = dy * W^T, t from transpose_weight."""
    _convolve(code, row, (dy, 0), (t + _behind(row, 0), 0), 0, dx, back=True)


def backward_tangent(code: Code, row: Row, dy: int, dy_dot: int, t: int, t_dot: int, dx_dot: int) -> None:
    """dx_dot = dy * W_dot^T + dy_dot * W^T."""
    _convolve(code, row, (dy, dy_dot), (t_dot + _behind(row, 0), t + _behind(row, 0)), 0, dx_dot, back=True)


def backward_weight(code: Code, row: Row, x: int, dy: int, out: int, add: bool = False) -> None:
    """out = the gradient of W, or out += sign * (...)."""
    _weight_gradient(code, row, (x, 0), (dy, 0), out, add)


def backward_weight_tangent(
    code: Code, row: Row, x: int, x_dot: int, dy: int, dy_dot: int, out: int, add: bool
) -> None:
    """out = the gradient of W from x and dy_dot and from x_dot and dy, or out += sign * (...)."""
    _weight_gradient(code, row, (x, x_dot), (dy_dot, dy), out, add)


def _behind(row: Row, which: int) -> int:
    """From the transposed taps of a set to what lies behind: their transform (0) and that of the weight (1)."""
    return 8 * int(row[CP] * row[OCP]) * (TAPS * TAPS + which * FREQUENCIES)


def _transformed(code: Code, row: Row, w: int, u: int) -> int:
    code.add(WINOGRAD_WEIGHT, OWN, w, u, row[PANEL], row=row)
    return u


def _convolve(
    code: Code, row: Row, x: tuple[int, int], u: tuple[int, int], bias: int, y: int, relu: bool = False,
    back: bool = False,
) -> None:  # fmt: skip
    """y = x[0] * u[0] + x[1] * u[1] + bias; operand 0 where there is no second pair. back: from outputs to inputs."""
    shift = TAPS - 1 - row[PADDING] if back else row[PADDING]
    code.add(WINOGRAD, OWN, *x, *u, bias, y, relu, back, shift, row[PANEL], row=row)


def _weight_gradient(code: Code, row: Row, x: tuple[int, int], dy: tuple[int, int], out: int, add: bool) -> None:
    places = row[SUMS], row[PARTS], row[PADDING], row[PANEL]
    code.add(WINOGRAD_SUMS, OWN, *x, *dy, *places, row=row)
    code.add(WINOGRAD_GRADIENT, OWN, out, add, row[SUMS], row[PARTS], row[PANEL], row=row)


@kernel
def _panel(ws, job, code, l, argument, part):
    """Where this part's panel begins, and the channels' planes behind the values on their way."""
    start = job[WORKSPACE_SIZE] + (part - 1) * code[l, ARGUMENTS + argument]
    return start, start + FREQUENCIES * max(code[l, CP], code[l, OCP])


@kernel
def run_convolve(ws, job, code, l, schedule, r, part, parts):
    """One part of WINOGRAD: a share of the tiles, block by block."""
    x, x2 = place(schedule, r, code[l, ARGUMENTS]), place(schedule, r, code[l, ARGUMENTS + 1])
    u, u2 = place(schedule, r, code[l, ARGUMENTS + 2]), place(schedule, r, code[l, ARGUMENTS + 3])
    bias, y = place(schedule, r, code[l, ARGUMENTS + 4]), place(schedule, r, code[l, ARGUMENTS + 5])
    pair, relu, back = code[l, ARGUMENTS + 1] != 0, code[l, ARGUMENTS + 6] != 0, code[l, ARGUMENTS + 7] != 0
    shift = code[l, ARGUMENTS + 8]
    c, xn, xr, h, w = code[l, CP], code[l, X_N], code[l, X_R], code[l, H], code[l, W]
    o, yn, yr, oh, ow = code[l, OCP], code[l, Y_N], code[l, Y_R], code[l, OH], code[l, OW]
    if back:
        c, xn, xr, h, w, o, yn, yr, oh, ow = o, yn, yr, oh, ow, c, xn, xr, h, w
    temporary, v = _panel(ws, job, code, l, 9, part)
    line, zero, one = CACHE_LINE // ws.itemsize, 0, ws.dtype.type(1.0)
    v_plane, m_plane = BLOCK * c + line, BLOCK * o + line  # one line more: planes do not share sets of the cache
    v2 = v + FREQUENCIES * v_plane
    m = v2 + FREQUENCIES * v_plane if pair else v2
    tall, wide = (oh + TILE - 1) // TILE, (ow + TILE - 1) // TILE
    low, high = share(code[l, N] * tall * wide, part, parts)
    for tile in range(low, high, BLOCK):
        n = min(BLOCK, high - tile)
        from_image(ws, tile, n, x, xn, xr, c, h, w, shift, tall, wide, PATCH, temporary, v, c, v_plane)
        if pair:
            from_image(ws, tile, n, x2, xn, xr, c, h, w, shift, tall, wide, PATCH, temporary, v2, c, v_plane)
        for f in range(FREQUENCIES):
            a, b, to = v + f * v_plane, u + f * c * o, m + f * m_plane
            product(ws, n, o, 2 if pair else 1, c, a, c, 1, v2 - v, b, o, u2 - u, to, o, zero, 0, one, False)
        to_image(ws, tile, n, m, m_plane, o, temporary, y, yn, yr, oh, ow, tall, wide, bias, relu)


@kernel
def run_sums(ws, job, code, l, schedule, r, part, parts):
    """One part of WINOGRAD_SUMS: products over the tiles of a partial sum, for some channels where threads are many."""
    x, x2 = place(schedule, r, code[l, ARGUMENTS]), place(schedule, r, code[l, ARGUMENTS + 1])
    dy, dy2 = place(schedule, r, code[l, ARGUMENTS + 2]), place(schedule, r, code[l, ARGUMENTS + 3])
    pair, sums, count = code[l, ARGUMENTS + 1] != 0, code[l, ARGUMENTS + 4], code[l, ARGUMENTS + 5]
    shift = code[l, ARGUMENTS + 6]
    c, xn, xr, h, w = code[l, CP], code[l, X_N], code[l, X_R], code[l, H], code[l, W]
    o, yn, yr, oh, ow = code[l, OCP], code[l, Y_N], code[l, Y_R], code[l, OH], code[l, OW]
    temporary, v = _panel(ws, job, code, l, 7, part)
    width, line, one = VECTOR_BYTES // ws.itemsize, CACHE_LINE // ws.itemsize, ws.dtype.type(1.0)
    tall, wide = (oh + TILE - 1) // TILE, (ow + TILE - 1) // TILE
    slabs = min((parts + count - 1) // count, c // width)
    begin, end = share(count * slabs, part, parts)
    for unit in range(begin, end):
        first, last = share(c // width, unit % slabs, slabs)
        depth, first = (last - first) * width, first * width
        v_plane, m_plane = BLOCK * depth + line, BLOCK * o + line
        v2 = v + FREQUENCIES * v_plane
        m = v2 + FREQUENCIES * v_plane if pair else v2
        m2 = m + FREQUENCIES * m_plane
        low, high = share(code[l, N] * tall * wide, unit // slabs, count)
        for tile in range(low, high, BLOCK):
            n = min(BLOCK, high - tile)
            from_image(ws, tile, n, x + first, xn, xr, c, h, w, shift, tall, wide, PATCH, temporary, v, depth, v_plane)
            from_image(ws, tile, n, dy, yn, yr, o, oh, ow, 0, tall, wide, TILE, temporary, m, o, m_plane)
            if pair:
                from_image(
                    ws, tile, n, x2 + first, xn, xr, c, h, w, shift, tall, wide, PATCH, temporary, v2, depth, v_plane
                )
                from_image(ws, tile, n, dy2, yn, yr, o, oh, ow, 0, tall, wide, TILE, temporary, m2, o, m_plane)
            for f in range(FREQUENCIES):
                a, b = v + f * v_plane, m + f * m_plane
                to = sums + ((unit // slabs * FREQUENCIES + f) * c + first) * o
                d, ldd = (to, o) if tile > low else (0, 0)
                product(ws, depth, o, 2 if pair else 1, n, a, 1, depth, v2 - v, b, o, m2 - m, to, o, d, ldd, one, False)


@kernel
def run_weight(ws, job, code, l, schedule, r, part, parts):
    """One part of WINOGRAD_WEIGHT or WINOGRAD_GRADIENT: some vectors of (c o)."""
    width, size = VECTOR_BYTES // ws.itemsize, code[l, CP] * code[l, OCP]
    first, last = share(size // width, part, parts)
    first, last = first * width, last * width
    a, b = place(schedule, r, code[l, ARGUMENTS]), place(schedule, r, code[l, ARGUMENTS + 1])
    if code[l, OP] == WINOGRAD_WEIGHT:
        temporary, _ = _panel(ws, job, code, l, 2, part)
        from_weight(ws, a, b, size, first, last, temporary)
    else:
        temporary, _ = _panel(ws, job, code, l, 4, part)
        sums, count, add = code[l, ARGUMENTS + 2], code[l, ARGUMENTS + 3], code[l, ARGUMENTS + 1] != 0
        to_weight(ws, sums, count, a, size, first, last, temporary, add, ws.dtype.type(schedule[r, SIGN]))
