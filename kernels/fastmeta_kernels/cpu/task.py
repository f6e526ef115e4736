"""One task from first to last in one thread's workspace: inner steps, query, and the sweep back through them."""

from __future__ import annotations

from fastmeta_kernels.cpu import network, prototypes
from fastmeta_kernels.cpu._jit import kernel
from fastmeta_kernels.cpu.job import (
    G_STEP,
    LOSS_KIND,
    ORDER,
    PHI,
    PHI_STEP,
    SET_STEP,
    SETS,
    START,
    STEPS,
    STOP,
    SUPPORT_N,
    TANGENT,
    G,
    U,
    V,
)  # fmt: skip
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
def prototype_gradient(ws, plan, n, p, s, g, head, t):
    """`gradient` where the outputs are embeddings of the support and the query set of task t, and `head` the loss."""
    network.forward(ws, plan, n, p, s)
    prototypes.phase(ws, head, t, prototypes.ALL, 0)
    network.backward(ws, plan, n, p, s)
    network.weight_gradient(ws, plan, n, s, g)
    return ws[head[0, prototypes.LOSS]]


@kernel
def hvp(ws, plan, n, p, s, u, r, v, sign, loss_kind, weights):
    """v += sign * H u at parameters p, after `gradient` filled set s."""
    network.forward_tangent(ws, plan, n, p, s, u, r)
    network.loss_tangent(ws, plan, n, s, r, loss_kind, weights)
    network.backward_tangent(ws, plan, n, p, s, u, r)
    network.weight_gradient_tangent(ws, plan, n, s, r, v, sign)


@kernel
def scaled(ws, job, base, source, target, sign, rates, edges):
    """target = base + sign * m * alpha * source; base < 0 stands for zeros. rates (R,), one an array or one a value."""
    width = VECTOR_BYTES // ws.itemsize
    zero = splat(ws.dtype.type(0.0))
    size = edges[-1]
    for i in range(0, size, width):
        if base < 0:
            store(ws, target + i, zero)
        elif base != target and not job[START] <= i < job[STOP]:
            store(ws, target + i, load(ws, base + i))
    if rates.size == size:
        factor = splat(ws.dtype.type(sign))
        for i in range(job[START], job[STOP], width):
            step = factor * load(rates, i) * load(ws, source + i)
            store(ws, target + i, step if base < 0 else load(ws, base + i) + step)
        return
    for part in range(rates.size):
        low, high = (0, size) if rates.size == 1 else (edges[part], edges[part + 1])
        factor = splat(ws.dtype.type(sign * rates[part]))
        for i in range(max(low, job[START]), min(high, job[STOP]), width):
            step = factor * load(ws, source + i)
            store(ws, target + i, step if base < 0 else load(ws, base + i) + step)


@kernel
def rates_gradient(ws, job, g, v, out, edges):
    """out -= m * g * v, summed over whatever shares a rate; out (R,)."""
    width = VECTOR_BYTES // ws.itemsize
    size = edges[-1]
    if out.size == size:
        for i in range(job[START], job[STOP], width):
            store(out, i, load(out, i) - load(ws, g + i) * load(ws, v + i))
        return
    for part in range(out.size):
        low, high = (0, size) if out.size == 1 else (edges[part], edges[part + 1])
        high = min(high, job[STOP])
        whole = ws.dtype.type(0.0)
        for block in range(max(low, job[START]), high, BLOCK):
            s = splat(ws.dtype.type(0.0))
            for i in range(block, min(block + BLOCK, high), width):
                s = s + load(ws, g + i) * load(ws, v + i)
            whole += total(s)
        out[part] -= whole


@kernel
def inner_loop(ws, plan, job, x, y, labels, weights, rates, edges, losses):
    """phi_{k+1} = phi_k - m alpha_k grad L(phi_k); losses (S,). The job says what is kept of each step."""
    n = job[SUPPORT_N]
    for k in range(job[STEPS]):
        s, p, g = job[SETS] + k * job[SET_STEP], job[PHI] + k * job[PHI_STEP], job[G] + k * job[G_STEP]
        if k == 0 or job[SET_STEP] > 0:
            network.read_input(ws, plan, n, x, s)
        losses[k] = gradient(ws, plan, n, p, s, g, job[LOSS_KIND], y, labels, weights)
        rate = rates[k if rates.shape[0] > 1 else 0]
        scaled(ws, job, p, g, p + job[PHI_STEP], -1.0, rate, edges)


@kernel
def sweep(ws, plan, job, y, labels, weights, rates, edges, rates_out):
    """v_k = v_{k+1} - H_k m alpha_k v_{k+1} from v_S down to v_0, in place, and the gradient of the rates."""
    v, u, r, n, loss_kind, steps = job[V], job[U], job[TANGENT], job[SUPPORT_N], job[LOSS_KIND], job[STEPS]
    for k in range(steps - 1, -1, -1):
        s, p, g = job[SETS] + k * job[SET_STEP], job[PHI] + k * job[PHI_STEP], job[G] + k * job[G_STEP]
        if job[ORDER] == 2 and job[SET_STEP] == 0 and k < steps - 1:  # the last step's set is still there
            gradient(ws, plan, n, p, s, g, loss_kind, y, labels, weights)
        row = k if rates.shape[0] > 1 else 0
        rates_gradient(ws, job, g, v, rates_out[row], edges)
        if job[ORDER] == 2:
            scaled(ws, job, -1, v, u, 1.0, rates[row], edges)
            hvp(ws, plan, n, p, s, u, r, v, -1, loss_kind, weights)
