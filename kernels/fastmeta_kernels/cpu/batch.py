"""The parallel entry point: every job over a batch of tasks, compiled once a dtype.

Tasks are dealt to a fixed number of chunks, each with its own sums, so that the bits do not depend on the threads.
"""

from __future__ import annotations

import numba

from fastmeta_kernels.cpu import network, task
from fastmeta_kernels.cpu._jit import entry, kernel, linked
from fastmeta_kernels.cpu.job import (
    A_DIRECTION,
    A_EDGES,
    A_GRADIENTS,
    A_HEAD,
    A_QUERY_LOSSES,
    A_QUERY_PLAN,
    A_RATES,
    A_RATES_GRADIENTS,
    A_RESULTS,
    A_SUPPORT_LOSSES,
    A_SUPPORT_PLAN,
    A_THETA,
    A_WQ,
    A_WS,
    A_XQ,
    A_XS,
    A_YQ,
    A_YS,
    ADAPT,
    CHUNKS,
    EDGES_N,
    FEATURES,
    HVP,
    KIND,
    LOSS,
    LOSS_KIND,
    META,
    OUTPUTS,
    PACKED,
    PHI,
    PHI_STEP,
    PREDICT,
    QUERY,
    QUERY_N,
    QUERY_WEIGHTED,
    RATE_ROWS,
    RATES,
    STEPS,
    SUPPORT_N,
    SUPPORT_WEIGHTED,
    T_DIRECTION,
    T_THETA,
    TANGENT,
    TASKS,
    WORKSPACE_SIZE,
    U,
    V,
    array_at,
    plan_at,
)  # fmt: skip
from fastmeta_kernels.cpu.losses import PROTOTYPES
from fastmeta_kernels.cpu.plan import OUTPUTS as DENSE_OUTPUTS
from fastmeta_kernels.cpu.prototype_layout import FIELDS as HEAD_FIELDS
from fastmeta_kernels.cpu.vector import VECTOR_BYTES, load, splat, store


@kernel
def samples(ws, job, t, n, x, y, w, weighted):
    """One task's inputs, targets, labels and weights; targets or labels, and missing weights, are empty."""
    o = job[OUTPUTS]
    labelled = job[LOSS_KIND] == 1
    inputs = array_at(ws, job[x], t * n * job[FEATURES], n * job[FEATURES])
    targets = array_at(ws, job[y], 0 if labelled else t * n * o, 0 if labelled else n * o)
    labels = array_at(job, job[y], t * n if labelled else 0, n if labelled else 0)
    weights = array_at(ws, job[w], t * n * job[weighted], n * job[weighted])
    return inputs, targets, labels, weights


@kernel
def run_task(ws, job, t, chunk):
    """One task of a job."""
    packed, kind, phi, v, width = job[PACKED], job[KIND], job[PHI], job[V], VECTOR_BYTES // ws.itemsize
    rate_size = job[RATE_ROWS] * job[RATES]
    rates = array_at(ws, job[A_RATES], 0, rate_size).reshape(job[RATE_ROWS], job[RATES])
    edges = array_at(job, job[A_EDGES], 0, job[EDGES_N])
    support_plan, query_plan = plan_at(job, job[A_SUPPORT_PLAN]), plan_at(job, job[A_QUERY_PLAN])
    theta = array_at(ws, job[A_THETA], t * job[T_THETA], packed)
    for i in range(0, packed, width):
        store(ws, phi + i, load(theta, i))

    xs, ys, ls, weights = samples(ws, job, t, job[SUPPORT_N], A_XS, A_YS, A_WS, SUPPORT_WEIGHTED)
    losses = array_at(ws, job[A_SUPPORT_LOSSES], t * job[STEPS], job[STEPS])
    task.inner_loop(ws, support_plan, job, xs, ys, ls, weights, rates, edges, losses)
    phi += job[STEPS] * job[PHI_STEP]
    if kind == ADAPT:
        results = array_at(ws, job[A_RESULTS], t * packed, packed)
        for i in range(0, packed, width):
            store(results, i, load(ws, phi + i))
        return

    n, s = job[QUERY_N], job[QUERY]
    xq, yq, lq, wq = samples(ws, job, t, n, A_XQ, A_YQ, A_WQ, QUERY_WEIGHTED)
    query_losses = array_at(ws, job[A_QUERY_LOSSES], t, 1)
    network.read_input(ws, query_plan, n, xq, s)
    if kind == PREDICT or kind == LOSS:
        network.forward(ws, query_plan, n, phi, s)
        if kind == LOSS:
            query_losses[0] = network.loss(ws, query_plan, n, s, job[LOSS_KIND], yq, lq, wq)
            return
        size = n * job[OUTPUTS]
        outputs = array_at(ws, job[A_RESULTS], t * size, size)
        for i in range(size):
            outputs[i] = ws[s + query_plan[0, DENSE_OUTPUTS] + i]
        return
    if job[LOSS_KIND] == PROTOTYPES:
        head = array_at(job, job[A_HEAD], 0, HEAD_FIELDS).reshape(1, HEAD_FIELDS)
        query_losses[0] = task.prototype_gradient(ws, query_plan, n, phi, s, v, head, t)
    else:
        query_losses[0] = task.gradient(ws, query_plan, n, phi, s, v, job[LOSS_KIND], yq, lq, wq)
    if kind == META:
        rates_gradient = array_at(ws, job[A_RATES_GRADIENTS], chunk * rate_size, rate_size)
        rates_gradient_rows = rates_gradient.reshape(job[RATE_ROWS], job[RATES])
        task.sweep(ws, support_plan, job, ys, ls, weights, rates, edges, rates_gradient_rows)
        gradient = array_at(ws, job[A_GRADIENTS], chunk * packed, packed)
        for i in range(0, packed, width):
            store(gradient, i, load(gradient, i) + load(ws, v + i))
        return
    if kind == HVP:
        direction = array_at(ws, job[A_DIRECTION], t * job[T_DIRECTION], packed)
        for i in range(0, packed, width):
            store(ws, job[U] + i, load(direction, i))
            store(ws, v + i, splat(ws.dtype.type(0.0)))
        task.hvp(ws, query_plan, n, phi, s, job[U], job[TANGENT], v, 1, job[LOSS_KIND], wq)
    results = array_at(ws, job[A_RESULTS], t * packed, packed)
    for i in range(0, packed, width):
        store(results, i, load(ws, v + i))


@linked
def run_chunk(ws, jobs, chunk, first, last):
    """Tasks first .. last of a job; sums go to those of their chunk."""
    for t in range(first, last):
        run_task(ws, jobs[0], t, chunk)


@entry(parallel=True)
def run(workspaces, jobs):
    """Run the job (1, FIELDS) for every task, each thread in its own part of `workspaces`.

    At the job's addresses: theta and direction (1 or T, packed); inputs (T, N, F), targets (T, N, O) or labels (T, N),
    weights (T, N) of both sets; rates (1 or S, R), one, one an array or one a packed parameter; edges of the packed
    arrays. Results: losses (T, S) and (T,); outputs (T, N * O) or parameters (T, packed); and sums of each chunk,
    (CHUNKS, packed) and (CHUNKS, 1 or S, R).
    """
    tasks, chunks, size = jobs[0, TASKS], jobs[0, CHUNKS], jobs[0, WORKSPACE_SIZE]
    for c in numba.prange(chunks):
        start = numba.get_thread_id() * size
        ws = workspaces[start : start + size]
        run_chunk(ws, jobs, c, c * tasks // chunks, (c + 1) * tasks // chunks)


@entry(parallel=False)
def run_alone(workspaces, jobs):
    """`run` in the calling thread, to the same bits."""
    tasks, chunks = jobs[0, TASKS], jobs[0, CHUNKS]
    ws = workspaces[: jobs[0, WORKSPACE_SIZE]]
    for c in range(chunks):
        run_chunk(ws, jobs, c, c * tasks // chunks, (c + 1) * tasks // chunks)
