"""One task from first to last in one thread's workspace: inner steps, query, and the sweep back through them."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from fastmeta_kernels.cpu import network
from fastmeta_kernels.cpu._jit import kernel
from fastmeta_kernels.cpu.layout import G, G_STEP, PHI, PHI_STEP, SET_STEP, SETS, TANGENT, U, V
from fastmeta_kernels.cpu.vector import VECTOR_BYTES, load, splat, store, total

BLOCK = 4096  # scalars summed in one vector before the parts are added: keeps float32 dot products accurate


@kernel
def gradient(ws, plan, n, p, s, g, loss_kind, y, labels, weights):
    """Loss of a set at parameters p; its gradient, packed, to g."""
    network.forward(ws, plan, n, p, s)
    value = network.loss(ws, plan, n, s, loss_kind, y, labels, weights)
    network.backward(ws, plan, n, p, s)
    network.weight_gradient(ws, plan, n, s, g)
    return value


@kernel
def hvp(ws, plan, n, p, s, u, r, v, sign, loss_kind, weights):
    """v += sign * H u at parameters p, after `gradient` filled set s."""
    network.forward_tangent(ws, plan, n, p, s, u, r)
    network.loss_tangent(ws, plan, n, s, r, loss_kind, weights)
    network.backward_tangent(ws, plan, n, p, s, u, r)
    network.weight_gradient_tangent(ws, plan, n, s, r, v, sign)


@kernel
def copy(ws, source, target, size):
    for i in range(0, size, VECTOR_BYTES // ws.itemsize):
        store(ws, target + i, load(ws, source + i))


@kernel
def scaled(ws, base, source, target, sign, rates, edges, adapted):
    """target = base + sign * m * alpha * source; base < 0 stands for zeros. `rates` (R,), one an edge or one a value."""
    width = VECTOR_BYTES // ws.itemsize
    zero = splat(ws.dtype.type(0.0))
    size = edges[-1]
    for i in range(0, size, width):
        if base < 0:
            store(ws, target + i, zero)
        elif base != target and not adapted[0] <= i < adapted[1]:
            store(ws, target + i, load(ws, base + i))
    if rates.size == size:
        factor = splat(ws.dtype.type(sign))
        for i in range(adapted[0], adapted[1], width):
            step = factor * load(rates, i) * load(ws, source + i)
            store(ws, target + i, step if base < 0 else load(ws, base + i) + step)
        return
    for part in range(rates.size):
        low, high = (0, size) if rates.size == 1 else (edges[part], edges[part + 1])
        factor = splat(ws.dtype.type(sign * rates[part]))
        for i in range(max(low, adapted[0]), min(high, adapted[1]), width):
            step = factor * load(ws, source + i)
            store(ws, target + i, step if base < 0 else load(ws, base + i) + step)


@kernel
def rates_gradient(ws, g, v, out, edges, adapted):
    """out -= m * g * v, summed over whatever shares a rate; out (R,)."""
    width = VECTOR_BYTES // ws.itemsize
    size = edges[-1]
    if out.size == size:
        for i in range(adapted[0], adapted[1], width):
            store(out, i, load(out, i) - load(ws, g + i) * load(ws, v + i))
        return
    for part in range(out.size):
        low, high = (0, size) if out.size == 1 else (edges[part], edges[part + 1])
        high = min(high, adapted[1])
        whole = ws.dtype.type(0.0)
        for block in range(max(low, adapted[0]), high, BLOCK):
            s = splat(ws.dtype.type(0.0))
            for i in range(block, min(block + BLOCK, high), width):
                s = s + load(ws, g + i) * load(ws, v + i)
            whole += total(s)
        out[part] -= whole


@kernel
def inner_loop(
    ws, plan, n, layout, steps, x, y, labels, weights, loss_kind, rates, edges, adapted, losses
):
    """phi_{k+1} = phi_k - m alpha_k grad L(phi_k); losses (S,). The layout says what is kept of each step."""
    for k in range(steps):
        s, p = layout[SETS] + k * layout[SET_STEP], layout[PHI] + k * layout[PHI_STEP]
        g = layout[G] + k * layout[G_STEP]
        if k == 0 or layout[SET_STEP] > 0:
            network.read_input(ws, plan, n, x, s)
        losses[k] = gradient(ws, plan, n, p, s, g, loss_kind, y, labels, weights)
        rate = rates[k] if rates.shape[0] > 1 else rates[0]
        scaled(ws, p, g, p + layout[PHI_STEP], -1.0, rate, edges, adapted)


@kernel
def sweep(
    ws, plan, n, layout, steps, order, y, labels, weights, loss_kind, rates, edges, adapted, rates_out
):
    """v_k = v_{k+1} - H_k m alpha_k v_{k+1} from v_S down to v_0, in place, and the gradient of the rates."""
    v, u, r = layout[V], layout[U], layout[TANGENT]
    for k in range(steps - 1, -1, -1):
        s, p = layout[SETS] + k * layout[SET_STEP], layout[PHI] + k * layout[PHI_STEP]
        g = layout[G] + k * layout[G_STEP]
        if order == 2 and layout[SET_STEP] == 0 and (steps > 1 or layout[G_STEP] == 0):
            gradient(ws, plan, n, p, s, g, loss_kind, y, labels, weights)
        many = rates.shape[0] > 1
        rates_gradient(ws, g, v, rates_out[k] if many else rates_out[0], edges, adapted)
        if order == 2:
            scaled(ws, -1, v, u, 1.0, rates[k] if many else rates[0], edges, adapted)
            hvp(ws, plan, n, p, s, u, r, v, -1, loss_kind, weights)
