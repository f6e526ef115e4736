"""The parallel entry point: every job over a batch of tasks. Flat arrays and integers only, compiled once a dtype.

Tasks are dealt to a fixed number of chunks, each with its own sums, so that the bits do not depend on the threads.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numba

from fastmeta_kernels.cpu import network, task
from fastmeta_kernels.cpu._jit import entry, kernel
from fastmeta_kernels.cpu.layout import ADAPT, HVP, LOSS, META, PHI, PHI_STEP, PREDICT, QUERY, TANGENT, U, V
from fastmeta_kernels.cpu.plan import OUTPUTS
from fastmeta_kernels.cpu.vector import VECTOR_BYTES, load, splat, store

CHUNKS = 16


@kernel
def run_task(
    ws, job, t, layout, loss_kind, support_plan, ns, query_plan, nq, theta, direction,
    xs, ys, ls, ws_, xq, yq, lq, wq, steps, order, rates, edges, adapted,
    support_losses, query_losses, outputs, parameters, gradient, rates_gradient,
):  # fmt: skip
    """One task of a job; see `run`."""
    packed = edges[-1]
    phi, v = layout[PHI], layout[V]
    width = VECTOR_BYTES // ws.itemsize
    row = t * packed if theta.size > packed else 0
    for i in range(0, packed, width):
        store(ws, phi + i, load(theta, row + i))
    if steps > 0:
        task.inner_loop(
            ws, support_plan, ns, layout, steps, xs[t], ys[t], ls[t], ws_[t], loss_kind, rates, edges,
            adapted, support_losses[t],
        )  # fmt: skip
    phi += steps * layout[PHI_STEP]
    if job == ADAPT:
        for i in range(0, packed, width):
            store(parameters, t * packed + i, load(ws, phi + i))
        return
    s = layout[QUERY]
    network.read_input(ws, query_plan, nq, xq[t], s)
    if job == PREDICT or job == LOSS:
        network.forward(ws, query_plan, nq, phi, s)
        if job == LOSS:
            query_losses[t] = network.loss(ws, query_plan, nq, s, loss_kind, yq[t], lq[t], wq[t])
        else:
            for i in range(outputs.shape[1]):
                outputs[t, i] = ws[s + query_plan[0, OUTPUTS] + i]
        return
    query_losses[t] = task.gradient(
        ws, query_plan, nq, phi, s, v, loss_kind, yq[t], lq[t], wq[t]
    )
    if job == META:
        task.sweep(
            ws, support_plan, ns, layout, steps, order, ys[t], ls[t], ws_[t], loss_kind, rates, edges,
            adapted, rates_gradient,
        )  # fmt: skip
        for i in range(0, packed, width):
            store(gradient, i, load(gradient, i) + load(ws, v + i))
        return
    if job == HVP:
        row = t * packed if direction.size > packed else 0
        for i in range(0, packed, width):
            store(ws, layout[U] + i, load(direction, row + i))
            store(ws, v + i, splat(ws.dtype.type(0.0)))
        task.hvp(
            ws, query_plan, nq, phi, s, layout[U], layout[TANGENT], v, 1, loss_kind, wq[t]
        )
    for i in range(0, packed, width):
        store(parameters, t * packed + i, load(ws, v + i))


@entry
def run(
    job, workspaces, layout, loss_kind, support_plan, ns, query_plan, nq, theta,
    direction, xs, ys, ls, ws_, xq, yq, lq, wq, steps, order, rates, edges, adapted,
    support_losses, query_losses, outputs, parameters, gradients, rates_gradients,
):  # fmt: skip
    """Run `job` for every task.

    theta and direction (1 or T, packed) flat; xs (T, ns, F), ys (T, ns, O) targets or ls (T, ns) labels, ws_ (T, ns or 0)
    weights, likewise for the query set; rates (1 or S, R) and adapted as in the contract, packed; then the results:
    losses (T, S) and (T,), outputs (T, nq * O), parameters (T, packed) flat, and sums of each chunk, (CHUNKS, packed)
    and (CHUNKS, 1 or S, R).
    """
    tasks, chunks = xq.shape[0], gradients.shape[0]
    for c in numba.prange(chunks):
        ws = workspaces[numba.get_thread_id()]
        for t in range(c * tasks // chunks, (c + 1) * tasks // chunks):
            run_task(
                ws, job, t, layout, loss_kind, support_plan, ns, query_plan, nq, theta,
                direction, xs, ys, ls, ws_, xq, yq, lq, wq, steps, order, rates, edges, adapted,
                support_losses, query_losses, outputs, parameters, gradients[c], rates_gradients[c],
            )  # fmt: skip

