"""Squared error, softmax cross-entropy, Huber's and a linear loss over dense outputs z (N, O), with sample weights.

dz and the softmax probabilities, or in their place Huber's second derivatives, stay for the second derivative.
"""

from __future__ import annotations

from fastmeta_kernels.contract import Loss
from fastmeta_kernels.cpu.layout import job
from fastmeta_kernels.cpu.layout.instruction import (
    LOSS,
    LOSS_TANGENT,
    SAMPLE_SLOPES,
    SERIAL,
    Code,
    R,
    S,
    at,
    one,
    place,
)
from fastmeta_kernels.cpu.layout.job import RATES_GRADIENTS, SLOPES, integers, stream
from fastmeta_kernels.cpu.layout.network import Plan
from fastmeta_kernels.cpu.losses import policies
from fastmeta_kernels.cpu.losses.softmax import below_largest, exponentials, logarithms
from fastmeta_kernels.cpu.machine.jit import kernel
from fastmeta_kernels.layer_table import CROSS_ENTROPY, HUBER, LINEAR_LOSS, POLICY
from fastmeta_kernels.request import Request


def emit(code: Code, request: Request, of: Plan, support: bool, tangent: bool, rated: bool) -> None:
    """The loss of the support or query set, or the tangents of its outputs' deltas; rated: and the rate's gradient."""
    register, data = R if tangent else S, request.inner if support else request.query
    by_step = of.samples if request.query_loss_steps and not support else 0
    loss = data.loss or Loss(LINEAR_LOSS)
    if loss.kind == POLICY:
        policies.emit(code, of, data, support, tangent, by_step, rated)
        return
    code.add(
        LOSS_TANGENT if tangent else LOSS,
        SERIAL,
        of.layers[0],
        targets=job.SUPPORT_Y if support else job.QUERY_Y,
        weights=job.SUPPORT_W if support else job.QUERY_W,
        losses=job.SUPPORT_LOSSES if support else job.QUERY_LOSSES,
        z=at(register, of.outputs),
        dz=at(register, of.output_deltas),
        probabilities=at(S, of.probabilities),
        loss=loss.kind,
        constant=loss.constants[0] if loss.constants else 0.0,
        outputs=of.o,
        weighted=data.weighted or by_step > 0,
        by_step=rated if tangent else by_step,
        last_dz=at(S, of.output_deltas),
    )


def emit_slopes(code: Code, request: Request, of: Plan) -> None:
    """d Q / d weight_n -= the derivative along U of the support loss of sample n, after the tangents of the outputs.

    The loss without weights puts its deltas where their tangents come next; what it loses goes in front of the slopes.
    """
    first, loss = len(code), request.inner.loss
    assert loss is not None
    emit(code, request, of, True, tangent=False, rated=False)
    one, deltas = code.rows[first], at(R, of.output_deltas)
    one["weighted"], one["losses"] = 0, job.SLOPES
    one["dz"] = deltas
    if loss.kind != POLICY:
        one["probabilities"] = at(R, of.probabilities)
    places = {"dz": deltas, "z_dot": at(R, of.outputs)}
    code.add(SAMPLE_SLOPES, SERIAL, of.layers[0], **places, outputs=of.o, begin=request.steps)


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
    below_largest(ws, n, o, z, p)
    for i in range(n):
        w = weights[i] * share if weights.size > 0 else share
        loss -= w * ws[p + i * o + labels[i]]
    exponentials(ws, p, n * o)
    for i in range(n):
        mass = ws.dtype.type(0.0)
        for j in range(i * o, i * o + o):
            mass += ws[p + j]
        inverse = ws.dtype.type(1.0) / mass
        for j in range(i * o, i * o + o):
            ws[p + j] *= inverse
        ws[dz + i] = mass
    logarithms(ws, dz, n)
    for i in range(n):
        loss += (weights[i] * share if weights.size > 0 else share) * ws[dz + i]
    for i in range(n):
        w = weights[i] * share if weights.size > 0 else share
        for j in range(i * o, i * o + o):
            ws[dz + j] = w * ws[p + j]
        label = i * o + labels[i]
        ws[dz + label] = w * (ws[p + label] - 1.0)
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
def huber(ws, n, o, z, targets, weights, dz, curvature, delta):
    """L = 1 / (N O) sum_n w_n h(z - t): h(e) = e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2); dz and h''."""
    loss = 0.0
    share = 1.0 / (n * o)
    for i in range(n):
        w = weights[i] * share if weights.size > 0 else share
        for j in range(i * o, i * o + o):
            e = ws[z + j] - targets[j]
            if abs(e) <= delta:
                loss += w * 0.5 * e * e
                ws[dz + j] = w * e
                ws[curvature + j] = w
            else:
                loss += w * delta * (abs(e) - 0.5 * delta)
                ws[dz + j] = w * delta if e > 0 else -w * delta
                ws[curvature + j] = 0.0
    return loss


@kernel
def huber_tangent(ws, n, o, z_dot, dz_dot, curvature):
    """dz_dot = w_n h'' z_dot / (N O)."""
    for j in range(n * o):
        ws[dz_dot + j] = ws[curvature + j] * ws[z_dot + j]


@kernel
def run(ws, job, code, l, now, t):
    """LOSS: the loss of a set to its stream, and the deltas of the outputs."""
    it = one(LOSS, code, l)
    n, o = it.n, it.outputs
    k = now.inner_step
    z, dz = place(now, it.z), place(now, it.dz)
    p = place(now, it.probabilities)
    begin = k * it.by_step  # where a step's own weights begin
    weights = stream(ws, job, it.weights, t, begin + n * it.weighted)[begin:]
    out = stream(ws, job, it.losses, t, k + 1)
    if it.loss == LINEAR_LOSS:
        out[k] = linear(ws, n, o, z, stream(ws, job, it.targets, t, n * o), dz)
    elif it.loss == CROSS_ENTROPY:
        out[k] = cross_entropy(ws, n, o, z, integers(job, it.targets, t, n), weights, dz, p)
    elif it.loss == HUBER:
        out[k] = huber(ws, n, o, z, stream(ws, job, it.targets, t, n * o), weights, dz, p, it.constant)
    else:
        out[k] = squared_error(ws, n, o, z, stream(ws, job, it.targets, t, n * o), weights, dz)


@kernel
def run_tangent(ws, job, code, l, now, t):
    """LOSS_TANGENT: tangents of the deltas of the outputs, after the outputs' own."""
    it = one(LOSS_TANGENT, code, l)
    n, o = it.n, it.outputs
    z_dot, dz_dot = place(now, it.z), place(now, it.dz)
    p = place(now, it.probabilities)
    weights = stream(ws, job, it.weights, t, n * it.weighted)
    if it.by_step > 0:  # d L / d alpha -= the derivative of the loss along v
        dz, row = place(now, it.last_dz), now.rate_row
        slope = 0.0
        for j in range(n * o):
            slope += ws[dz + j] * ws[z_dot + j]
        stream(ws, job, RATES_GRADIENTS, t, row + 1)[row] -= slope
    if it.loss == CROSS_ENTROPY:
        cross_entropy_tangent(ws, n, o, z_dot, weights, dz_dot, p)
    elif it.loss == HUBER:
        huber_tangent(ws, n, o, z_dot, dz_dot, p)
    else:
        squared_error_tangent(ws, n, o, z_dot, weights, dz_dot)


@kernel
def run_slopes(ws, job, code, l, now, t):
    """SAMPLE_SLOPES."""
    it = one(SAMPLE_SLOPES, code, l)
    n, o = it.n, it.outputs
    dz, z_dot = place(now, it.dz), place(now, it.z_dot)
    slopes = stream(ws, job, SLOPES, t, it.begin + n)[it.begin :]
    for i in range(n):
        slope = 0.0
        for j in range(i * o, i * o + o):
            slope += ws[dz + j] * ws[z_dot + j]
        slopes[i] -= slope
