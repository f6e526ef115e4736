"""y = x * W of 3 x 3 taps and stride 1 by Winograd's tiles, as instructions: 36 small products instead of 9 large ones.

A block of tiles is transformed, multiplied frequency by frequency and transformed back before the next one, in a panel
that each thread has for itself; transformed weights stay in their set for the tangents. The gradient of a weight is the
adjoint: 36 products over tiles, summed over fixed parts of them. A tangent is one product of two pairs, as in `linear`.

Longer than 200 lines because its four instructions share one layout of tiles.
"""

from __future__ import annotations

from fastmeta_kernels.cpu.layers import convolution
from fastmeta_kernels.cpu.layers.winograd.tiles import from_image, from_weight, to_image, to_weight
from fastmeta_kernels.cpu.layout.instruction import (
    NONE,
    OWN,
    WINOGRAD,
    WINOGRAD_GRADIENT,
    WINOGRAD_SUMS,
    WINOGRAD_WEIGHT,
    Code,
    Operand,
    one,
    place,
    share,
)
from fastmeta_kernels.cpu.layout.layer import CACHE_LINE, Layer
from fastmeta_kernels.cpu.layout.places import Into, Places
from fastmeta_kernels.cpu.layout.winograd import BLOCK, FREQUENCIES, PATCH, TAPS, TILE
from fastmeta_kernels.cpu.machine.jit import kernel
from fastmeta_kernels.cpu.machine.product import product
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES

RECTIFIES, MASKS_INPUTS = False, False
Pair = tuple[Operand, Operand]  # the second is NONE where there is one factor only


def forward(code: Code, layer: Layer, at: Places) -> None:
    """y = x * W + b."""
    u = _transformed(code, layer, at.weight, _behind(layer, at.transposed, 1))
    _convolve(code, layer, (at.x, NONE), (u, NONE), at.bias, at.y, layer.relu)


def forward_tangent(code: Code, layer: Layer, at: Places) -> None:
    """y_dot = x * W_dot + x_dot * W + b_dot, after `forward` of the same set."""
    if not at.inner:
        u = _transformed(code, layer, at.weight_dot, _behind(layer, at.transposed, 1))
        _convolve(code, layer, (at.x, NONE), (u, NONE), at.bias_dot, at.y_dot)
        return
    u_dot = _transformed(code, layer, at.weight_dot, _behind(layer, at.transposed_dot, 1))
    pair = u_dot, _behind(layer, at.transposed, 1)
    _convolve(code, layer, (at.x, at.x_dot), pair, at.bias_dot, at.y_dot)


def transpose_weight(code: Code, layer: Layer, w: Operand, t: Operand) -> None:
    """The transposed taps in falling order, and behind them their transform."""
    convolution.transpose_weight(code, layer, w, t)
    _transformed(code, layer, t, _behind(layer, t, 0))


def backward(code: Code, layer: Layer, at: Places, into: Into | None, transpose: bool) -> None:
    """dW and db, and dx = dy * W^T."""
    if into:
        _weight_gradient(code, layer, (at.x, NONE), (at.dy, NONE), into)
        convolution.bias_gradient(code, layer, at.dy, into)
    if not at.inner:
        return
    if transpose:
        transpose_weight(code, layer, at.weight, at.transposed)
    _convolve(code, layer, (at.dy, NONE), (_behind(layer, at.transposed, 0), NONE), NONE, at.dx, back=True)


def backward_tangent(code: Code, layer: Layer, at: Places, into: Into) -> None:
    """dW_dot from x and dy_dot and from x_dot and dy; dx_dot = dy * W_dot^T + dy_dot * W^T."""
    second = (at.x_dot, at.dy) if at.inner else (NONE, NONE)
    _weight_gradient(code, layer, (at.x, second[0]), (at.dy_dot, second[1]), into)
    convolution.bias_gradient(code, layer, at.dy_dot, into)
    if at.inner:
        transpose_weight(code, layer, at.weight_dot, at.transposed_dot)
        pair = _behind(layer, at.transposed_dot, 0), _behind(layer, at.transposed, 0)
        _convolve(code, layer, (at.dy, at.dy_dot), pair, NONE, at.dx_dot, back=True)


def _behind(layer: Layer, t: Operand, which: int) -> Operand:
    """What lies behind the transposed taps of a set: their transform (0) and that of the weight (1)."""
    return t.behind(layer.cp * layer.ocp * (TAPS * TAPS + which * FREQUENCIES))


def _transformed(code: Code, layer: Layer, w: Operand, u: Operand) -> Operand:
    code.add(WINOGRAD_WEIGHT, OWN, layer, a=w, out=u, panel=layer.panel)
    return u


def _convolve(
    code: Code, layer: Layer, x: Pair, u: Pair, bias: Operand, y: Operand, relu: bool = False, back: bool = False
) -> None:
    """y = x[0] * u[0] + x[1] * u[1] + bias. back: from outputs to inputs."""
    shift = TAPS - 1 - layer.padding if back else layer.padding
    factors = {"x": x[0], "x2": x[1], "u": u[0], "u2": u[1]}
    code.add(WINOGRAD, OWN, layer, **factors, bias=bias, y=y, relu=relu, back=back, shift=shift, panel=layer.panel)


def _weight_gradient(code: Code, layer: Layer, x: Pair, dy: Pair, into: Into) -> None:
    sums = {"sums": layer.sums, "parts": layer.parts, "panel": layer.panel}
    factors = {"x": x[0], "x2": x[1], "dy": dy[0], "dy2": dy[1]}
    code.add(WINOGRAD_SUMS, OWN, layer, **factors, padding=layer.padding, **sums)
    code.add(WINOGRAD_GRADIENT, OWN, layer, out=into.weight, add=into.adds, **sums)


@kernel
def _panel(job, it, part):
    """Where this part's panel begins, and the channels' planes behind the values on their way."""
    start = job.workspace_size + (part - 1) * it.panel
    return start, start + FREQUENCIES * max(it.cp, it.ocp)


@kernel
def run_convolve(ws, job, code, l, now, part, parts):
    """One part of WINOGRAD: a share of the tiles, block by block."""
    it = one(WINOGRAD, code, l)
    x, x2 = place(now, it.x), place(now, it.x2)
    u, u2 = place(now, it.u), place(now, it.u2)
    bias, y = place(now, it.bias), place(now, it.y)
    pair, relu = it.x2 != 0, it.relu != 0
    back, shift = it.back != 0, it.shift
    c, o = it.cp, it.ocp
    xn, yn = it.x_n, it.y_n
    xr, yr = it.x_r, it.y_r
    h, oh = it.h, it.oh
    w, ow = it.w, it.ow
    if back:
        c, o = o, c
        xn, yn = yn, xn
        xr, yr = yr, xr
        h, oh = oh, h
        w, ow = ow, w
    temporary, v = _panel(job, it, part)
    line, zero = CACHE_LINE // ws.itemsize, 0
    alpha = ws.dtype.type(1.0)
    v_plane, m_plane = BLOCK * c + line, BLOCK * o + line  # one line more: planes do not share sets of the cache
    v2 = v + FREQUENCIES * v_plane
    m = v2 + FREQUENCIES * v_plane if pair else v2
    tall, wide = (oh + TILE - 1) // TILE, (ow + TILE - 1) // TILE
    low, high = share(it.n * tall * wide, part, parts)
    for tile in range(low, high, BLOCK):
        n = min(BLOCK, high - tile)
        from_image(ws, tile, n, x, xn, xr, c, h, w, shift, tall, wide, PATCH, temporary, v, c, v_plane)
        if pair:
            from_image(ws, tile, n, x2, xn, xr, c, h, w, shift, tall, wide, PATCH, temporary, v2, c, v_plane)
        for f in range(FREQUENCIES):
            a, b = v + f * v_plane, u + f * c * o
            to = m + f * m_plane
            product(ws, n, o, 2 if pair else 1, c, a, c, 1, v2 - v, b, o, u2 - u, to, o, zero, 0, alpha, False)
        to_image(ws, tile, n, m, m_plane, o, temporary, y, yn, yr, oh, ow, tall, wide, bias, relu)


@kernel
def run_sums(ws, job, code, l, now, part, parts):
    """One part of WINOGRAD_SUMS: products over the tiles of a partial sum, for some channels where threads are many."""
    it = one(WINOGRAD_SUMS, code, l)
    x, x2 = place(now, it.x), place(now, it.x2)
    dy, dy2 = place(now, it.dy), place(now, it.dy2)
    pair, sums = it.x2 != 0, it.sums
    count, shift = it.parts, it.padding
    c, o = it.cp, it.ocp
    xn, yn = it.x_n, it.y_n
    xr, yr = it.x_r, it.y_r
    h, oh = it.h, it.oh
    w, ow = it.w, it.ow
    temporary, v = _panel(job, it, part)
    width, line = VECTOR_BYTES // ws.itemsize, CACHE_LINE // ws.itemsize
    alpha = ws.dtype.type(1.0)
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
        low, high = share(it.n * tall * wide, unit // slabs, count)
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
                product(
                    ws, depth, o, 2 if pair else 1, n, a, 1, depth, v2 - v, b, o, m2 - m, to, o, d, ldd, alpha, False
                )


@kernel
def _own_vectors(ws, it, part, parts):
    """First and last of the (c o) that are for one part, in whole vectors."""
    width = VECTOR_BYTES // ws.itemsize
    first, last = share(it.cp * it.ocp // width, part, parts)
    return first * width, last * width


@kernel
def run_weight(ws, job, code, l, now, part, parts):
    """One part of WINOGRAD_WEIGHT."""
    it = one(WINOGRAD_WEIGHT, code, l)
    first, last = _own_vectors(ws, it, part, parts)
    temporary, _ = _panel(job, it, part)
    from_weight(ws, place(now, it.a), place(now, it.out), it.cp * it.ocp, first, last, temporary)


@kernel
def run_gradient(ws, job, code, l, now, part, parts):
    """One part of WINOGRAD_GRADIENT."""
    it = one(WINOGRAD_GRADIENT, code, l)
    first, last = _own_vectors(ws, it, part, parts)
    temporary, _ = _panel(job, it, part)
    out, size = place(now, it.out), it.cp * it.ocp
    sign = ws.dtype.type(now.sign)
    to_weight(ws, it.sums, it.parts, out, size, first, last, temporary, it.add != 0, sign)
