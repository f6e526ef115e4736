"""The handlers of what lies around layers: samples, losses, heads, parameters and inner steps."""

from fastmeta_kernels.cpu.execution.handling import handles
from fastmeta_kernels.cpu.layout import instruction as op
from fastmeta_kernels.cpu.layout.instruction import any_one, share
from fastmeta_kernels.cpu.losses import losses, policies, prototypes
from fastmeta_kernels.cpu.program import parameters, pulls, samples


@handles(op.INPUT, op.MOVE, op.OUTPUT)
def handle_samples(ws, job, code, l, now, t, part, parts):
    """Copies of inputs and outputs."""
    it = any_one(code, l)
    if it.op == op.INPUT:
        first, last = share(it.n, part, parts)
        samples.run_input(ws, job, code, l, now, t, first, last)
    elif it.op == op.MOVE:
        samples.run_move(ws, code, l, now)
    else:
        samples.run_output(ws, job, code, l, now, t)


@handles(op.LOSS, op.LOSS_TANGENT)
def handle_loss(ws, job, code, l, now, t, part, parts):
    """Losses and deltas of the outputs."""
    if any_one(code, l).op == op.LOSS:
        losses.run(ws, job, code, l, now, t)
    else:
        losses.run_tangent(ws, job, code, l, now, t)


@handles(op.POLICY_LOSS, op.POLICY_TANGENT, op.POLICY_METRIC)
def handle_policy(ws, job, code, l, now, t, part, parts):
    """Losses of policies and the Fisher metric of their outputs."""
    kind = any_one(code, l).op
    if kind == op.POLICY_LOSS:
        policies.run(ws, job, code, l, now, t)
    elif kind == op.POLICY_TANGENT:
        policies.run_tangent(ws, job, code, l, now, t)
    else:
        policies.run_metric(ws, job, code, l, now, t)


@handles(op.SAMPLE_SLOPES)
def handle_slopes(ws, job, code, l, now, t, part, parts):
    """The gradient by the support weights."""
    losses.run_slopes(ws, job, code, l, now, t)


@handles(op.PULL, op.PULL_BACK)
def handle_pulls(ws, job, code, l, now, t, part, parts):
    """Weight decay and the proximal term."""
    if any_one(code, l).op == op.PULL:
        pulls.run_pull(ws, job, code, l, now, t)
    else:
        pulls.run_pull_back(ws, job, code, l, now, t)


@handles(op.HEAD, op.HEAD_BLOCKS)
def handle_head(ws, job, code, l, now, t, part, parts):
    """The prototype head."""
    if any_one(code, l).op == op.HEAD:
        prototypes.run_phase(ws, job, code, l, t)
    else:
        prototypes.run_blocks(ws, job, t, part, parts)


@handles(op.PARAMETERS, op.DESCEND, op.RATES, op.MULTIPLY)
def handle_parameters(ws, job, code, l, now, t, part, parts):
    """Moves of parameters and gradients, inner steps and what they leave."""
    kind = any_one(code, l).op
    if kind == op.PARAMETERS:
        parameters.run_move(ws, job, code, l, now, t, part, parts)
    elif kind == op.DESCEND:
        parameters.run_descend(ws, job, code, l, now, t, part, parts)
    elif kind == op.RATES:
        parameters.run_rates_gradient(ws, job, code, l, now, t)
    else:
        parameters.run_multiply(ws, code, l, now)
