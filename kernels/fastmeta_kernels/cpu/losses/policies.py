"""Losses of policies over dense outputs z (N, O), with advantages as weights, and the Fisher metric of outputs.

L = 1 / N sum_n w_n psi(l_n), l = log pi(y; z), or the mean KL(old || new), whose targets are old outputs. The tangent
of the delta dz = w psi' g / N is psi'' / psi' (g . z_dot) dz + w psi' g_dot / N, g the slope of l: psi'' is psi' of a
ratio, 0 of a logarithm.
"""

from __future__ import annotations

from fastmeta_kernels.cpu.layout import job
from fastmeta_kernels.cpu.layout.instruction import (
    POLICY_LOSS,
    POLICY_METRIC,
    POLICY_TANGENT,
    SERIAL,
    Code,
    R,
    S,
    at,
    one,
    place,
)
from fastmeta_kernels.cpu.layout.job import RATES_GRADIENTS, integers, stream
from fastmeta_kernels.cpu.layout.network import Plan
from fastmeta_kernels.cpu.losses import categorical_policy as categorical
from fastmeta_kernels.cpu.losses import gaussian_policy as gaussian
from fastmeta_kernels.cpu.losses.surrogates import CLIP, KL, RATIO
from fastmeta_kernels.cpu.machine.jit import kernel
from fastmeta_kernels.layer_table import POLICIES, SURROGATES
from fastmeta_kernels.request import Request, SetShape

KINDS = len(SURROGATES)  # an instruction's `loss` is policy * KINDS + surrogate
GAUSSIAN = POLICIES.index("gaussian")


def emit(code: Code, of: Plan, data: SetShape, support: bool, tangent: bool, by_step: int, rated: bool) -> None:
    """The loss of the support or query set, or the tangents of its outputs' deltas; rated: and the rate's gradient.

    by_step: distance of the weights of one step from the next's.
    """
    loss = data.loss
    assert loss is not None
    policy, surrogate, clip = loss.constants
    fields = {"loss": int(policy) * KINDS + int(surrogate), "clip": clip, "outputs": of.o}
    fields |= {"targets": job.SUPPORT_Y if support else job.QUERY_Y, "z": at(S, of.outputs)}
    fields |= {"weights": job.SUPPORT_W if support else job.QUERY_W, "dz": at(S, of.output_deltas)}
    fields["log_probs"] = job.SUPPORT_LOGS if support else job.QUERY_LOGS
    if tangent:
        fields |= {"z_dot": at(R, of.outputs), "dz_dot": at(R, of.output_deltas), "rated": rated}
        code.add(POLICY_TANGENT, SERIAL, of.layers[0], weighted=data.weighted, **fields)
        return
    losses = job.SUPPORT_LOSSES if support else job.QUERY_LOSSES
    code.add(
        POLICY_LOSS, SERIAL, of.layers[0], losses=losses, weighted=data.weighted or by_step > 0, by_step=by_step,
        **fields,
    )  # fmt: skip


def emit_metric(code: Code, request: Request, of: Plan) -> None:
    """The deltas of the outputs of the query set are its Fisher metric times their tangents."""
    assert request.query.loss is not None
    places = {"z": at(S, of.outputs), "z_dot": at(R, of.outputs), "dz": at(S, of.output_deltas)}
    sizes = {"outputs": of.o, "weighted": request.query.weighted, "loss": int(request.query.loss.constants[0]) * KINDS}
    code.add(POLICY_METRIC, SERIAL, of.layers[0], weights=job.QUERY_W, **places, **sizes)


@kernel
def run(ws, job, code, l, now, t):
    """POLICY_LOSS: the loss of a set to its stream, and the deltas of the outputs."""
    it = one(POLICY_LOSS, code, l)
    n, o = it.n, it.outputs
    k = now.inner_step
    z, dz = place(now, it.z), place(now, it.dz)
    begin = k * it.by_step  # where a step's own weights begin
    weights = stream(ws, job, it.weights, t, begin + n * it.weighted)[begin:]
    surrogate, is_gaussian = it.loss % KINDS, it.loss // KINDS == GAUSSIAN
    logs = stream(ws, job, it.log_probs, t, n if surrogate in (RATIO, CLIP) else 0)
    out = stream(ws, job, it.losses, t, k + 1)
    if is_gaussian:
        y = stream(ws, job, it.targets, t, n * o)
        if surrogate == KL:
            out[k] = gaussian.divergence(ws, n, o // 2, z, y, weights, dz)
        else:
            out[k] = gaussian.loss(ws, n, o // 2, z, y, logs, weights, dz, surrogate, it.clip)
    elif surrogate == KL:
        out[k] = categorical.divergence(ws, n, o, z, stream(ws, job, it.targets, t, n * o), weights, dz)
    else:
        labels = integers(job, it.targets, t, n)
        out[k] = categorical.loss(ws, n, o, z, labels, logs, weights, dz, surrogate, it.clip)


@kernel
def run_tangent(ws, job, code, l, now, t):
    """POLICY_TANGENT: tangents of the deltas of the outputs, after the outputs' own."""
    it = one(POLICY_TANGENT, code, l)
    n, o = it.n, it.outputs
    z, z_dot = place(now, it.z), place(now, it.z_dot)
    dz, dz_dot = place(now, it.dz), place(now, it.dz_dot)
    weights = stream(ws, job, it.weights, t, n * it.weighted)
    surrogate, is_gaussian = it.loss % KINDS, it.loss // KINDS == GAUSSIAN
    logs = stream(ws, job, it.log_probs, t, n if surrogate in (RATIO, CLIP) else 0)
    if it.rated > 0:  # d L / d alpha -= the derivative of the loss along v
        row, slope = now.rate_row, 0.0
        for j in range(n * o):
            slope += ws[dz + j] * ws[z_dot + j]
        stream(ws, job, RATES_GRADIENTS, t, row + 1)[row] -= slope
    if is_gaussian:
        y = stream(ws, job, it.targets, t, n * o)
        if surrogate == KL:
            gaussian.divergence_tangent(ws, n, o // 2, z, z_dot, y, weights, dz_dot)
        else:
            gaussian.loss_tangent(ws, n, o // 2, z, z_dot, y, logs, weights, dz, dz_dot, surrogate, it.clip)
    elif surrogate == KL:
        categorical.metric(ws, n, o, z, z_dot, weights, dz_dot)
    else:
        labels = integers(job, it.targets, t, n)
        categorical.loss_tangent(ws, n, o, z, z_dot, labels, logs, weights, dz, dz_dot, surrogate, it.clip)


@kernel
def run_metric(ws, job, code, l, now, t):
    """POLICY_METRIC."""
    it = one(POLICY_METRIC, code, l)
    n, o = it.n, it.outputs
    z, z_dot = place(now, it.z), place(now, it.z_dot)
    weights, dz = stream(ws, job, it.weights, t, n * it.weighted), place(now, it.dz)
    if it.loss // KINDS == GAUSSIAN:
        gaussian.metric(ws, n, o // 2, z, z_dot, weights, dz)
    else:
        categorical.metric(ws, n, o, z, z_dot, weights, dz)
