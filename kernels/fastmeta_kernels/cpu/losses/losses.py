"""Mean squared error, softmax cross-entropy and a linear loss over dense outputs z (N, O), with sample weights.

dz and, at z + p, the softmax probabilities stay for the second derivative.
"""

from __future__ import annotations

import numpy as np

from fastmeta_kernels.cpu.layout import instruction as op
from fastmeta_kernels.cpu.layout import job
from fastmeta_kernels.cpu.layout.instruction import ARGUMENTS, RATE_ROW, SERIAL, STEP, Code, at, place
from fastmeta_kernels.cpu.layout.job import RATES_GRADIENTS, stream
from fastmeta_kernels.cpu.layout.network import OUTPUT_DELTAS, OUTPUTS, PROBABILITIES, N, O, Plan
from fastmeta_kernels.cpu.machine.jit import kernel
from fastmeta_kernels.cpu.request import Request
from fastmeta_kernels.layer_table import CROSS_ENTROPY, LINEAR_LOSS


def emit(code: Code, request: Request, of: Plan, support: bool, tangent: bool, rated: bool) -> None:
    """The loss of the support or query set, or the tangents of its outputs' deltas; rated: and the rate's gradient."""
    row, register, which = of.rows[0], op.R if tangent else op.S, op.LOSS_TANGENT if tangent else op.LOSS
    streams = (job.SUPPORT_Y, job.SUPPORT_W) if support else (job.QUERY_Y, job.QUERY_W)
    weighted = request.support_weighted if support else request.query_weighted
    loss = request.support_loss if support else request.query_loss
    out = job.SUPPORT_LOSSES if support else job.QUERY_LOSSES
    places = at(register, row[OUTPUTS]), at(register, row[OUTPUT_DELTAS]), at(op.S, row[PROBABILITIES])
    by_step = of.samples if request.losses and not support else 0
    by_step = int(rated) if tangent else by_step
    code.add(
        which,
        SERIAL,
        *streams,
        *places,
        out,
        loss.kind,
        int(row[O]),
        weighted,
        by_step,
        at(op.S, row[OUTPUT_DELTAS]),
        row=row,
    )


@kernel
def squared_error(ws, n, o, z, targets, weights, dz):
    """L = 1 / (N O) sum_n w_n |z_n - t_n|^2, dz = 2 w_n (z - t) / (N O); targets (N * O,)."""
    loss = 0.0
    share = 1.0 / (n * o)
    for i in range(n):
        w = weights[i] * share if weights.size > 0 else share
        for j in range(o):
            e = ws[z + i * o + j] - targets[i * o + j]
            loss += w * e * e
            ws[dz + i * o + j] = 2.0 * w * e
    return loss


@kernel
def squared_error_tangent(ws, n, o, z_dot, weights, dz_dot):
    """dz_dot = 2 w_n z_dot / (N O)."""
    share = 2.0 / (n * o)
    for i in range(n):
        w = weights[i] * share if weights.size > 0 else share
        for j in range(i * o, i * o + o):
            ws[dz_dot + j] = w * ws[z_dot + j]


@kernel
def linear(ws, n, o, z, targets, dz):
    """L = sum z d, dz = d: the gradient of a network is then the pullback of d; targets d (N * O,)."""
    loss = 0.0
    for i in range(n * o):
        loss += ws[z + i] * targets[i]
        ws[dz + i] = targets[i]
    return loss


@kernel
def cross_entropy(ws, n, o, z, labels, weights, dz, p):
    """L = 1 / N sum_n w_n (log sum_j exp z_j - z_label), p = softmax(z), dz = w_n (p - onehot) / N; labels (N,)."""
    loss = 0.0
    share = 1.0 / n
    for i in range(n):
        w = weights[i] * share if weights.size > 0 else share
        row = z + i * o
        top = ws[row]
        for j in range(row + 1, row + o):
            top = max(top, ws[j])
        mass = ws.dtype.type(0.0)
        for j in range(o):
            e = np.exp(ws[row + j] - top)
            ws[p + i * o + j] = e
            mass += e
        inverse = ws.dtype.type(1.0) / mass
        for j in range(i * o, i * o + o):
            ws[p + j] *= inverse
            ws[dz + j] = w * ws[p + j]
        label = labels[i]
        ws[dz + i * o + label] = w * (ws[p + i * o + label] - 1.0)
        loss += w * (np.log(mass) + (top - ws[row + label]))
    return loss


@kernel
def cross_entropy_tangent(ws, n, o, z_dot, weights, dz_dot, p):
    """dz_dot = w_n p (z_dot - sum_j p_j z_dot_j) / N."""
    share = 1.0 / n
    for i in range(n):
        w = weights[i] * share if weights.size > 0 else share
        mean = ws.dtype.type(0.0)
        for j in range(i * o, i * o + o):
            mean += ws[p + j] * ws[z_dot + j]
        for j in range(i * o, i * o + o):
            ws[dz_dot + j] = w * ws[p + j] * (ws[z_dot + j] - mean)


@kernel
def run(ws, job, code, l, schedule, r, t):
    """LOSS: the loss of a set to its stream, and the deltas of the outputs."""
    a, n = ARGUMENTS, code[l, N]
    z, dz, p = (
        place(schedule, r, code[l, a + 2]),
        place(schedule, r, code[l, a + 3]),
        place(schedule, r, code[l, a + 4]),
    )
    kind, o, weighted = code[l, a + 6], code[l, a + 7], code[l, a + 8]
    k = schedule[r, STEP]
    begin = k * code[l, a + 9]  # where a step's own weights begin
    weights = stream(ws, job, code[l, a + 1], t, begin + n * weighted)[begin:]
    out = stream(ws, job, code[l, a + 5], t, k + 1)
    if kind == LINEAR_LOSS:
        out[k] = linear(ws, n, o, z, stream(ws, job, code[l, a], t, n * o), dz)
    elif kind == CROSS_ENTROPY:
        out[k] = cross_entropy(ws, n, o, z, stream(job, job, code[l, a], t, n), weights, dz, p)
    else:
        out[k] = squared_error(ws, n, o, z, stream(ws, job, code[l, a], t, n * o), weights, dz)


@kernel
def run_tangent(ws, job, code, l, schedule, r, t):
    """LOSS_TANGENT: tangents of the deltas of the outputs, after the outputs' own."""
    a, n = ARGUMENTS, code[l, N]
    z_dot, dz_dot, p = (
        place(schedule, r, code[l, a + 2]),
        place(schedule, r, code[l, a + 3]),
        place(schedule, r, code[l, a + 4]),
    )
    kind, o, weighted = code[l, a + 6], code[l, a + 7], code[l, a + 8]
    weights = stream(ws, job, code[l, a + 1], t, n * weighted)
    if code[l, a + 9] > 0:  # d L / d alpha -= the derivative of the loss along v
        dz, row, slope = place(schedule, r, code[l, a + 10]), schedule[r, RATE_ROW], 0.0
        for j in range(n * o):
            slope += ws[dz + j] * ws[z_dot + j]
        stream(ws, job, RATES_GRADIENTS, t, row + 1)[row] -= slope
    if kind == CROSS_ENTROPY:
        cross_entropy_tangent(ws, n, o, z_dot, weights, dz_dot, p)
    else:
        squared_error_tangent(ws, n, o, z_dot, weights, dz_dot)
