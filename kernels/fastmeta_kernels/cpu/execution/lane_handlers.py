"""The handlers of tasks in lanes: the instructions that a small MLP has, by a kernel that takes vectors for scalars."""

from fastmeta_kernels.cpu.execution.handling import LANE_HANDLERS, handles
from fastmeta_kernels.cpu.layers import in_lanes as layers
from fastmeta_kernels.cpu.layout import instruction as op
from fastmeta_kernels.cpu.layout.instruction import any_one
from fastmeta_kernels.cpu.losses import in_lanes as losses
from fastmeta_kernels.cpu.program import in_lanes as vectors


@handles(op.PRODUCT, register=LANE_HANDLERS)
def handle_lane_products(ws, job, code, l, now, t, part, parts):
    """Matrix products."""
    layers.run_product(ws, job, code, l, now)


@handles(
    op.ACTIVATE, op.ACTIVATE_BACKWARD, op.ACTIVATE_TANGENT, op.ACTIVATE_BACKWARD_TANGENT, op.MASK,
    register=LANE_HANDLERS,
)  # fmt: skip
def handle_lane_activation(ws, job, code, l, now, t, part, parts):
    """ReLU, tanh and softplus, and the derivatives of ReLUs that layers took over."""
    kind = any_one(code, l).op
    if kind == op.ACTIVATE:
        layers.run_forward(ws, code, l, now)
    elif kind == op.ACTIVATE_BACKWARD:
        layers.run_backward(ws, code, l, now)
    elif kind == op.ACTIVATE_TANGENT:
        layers.run_forward_tangent(ws, code, l, now)
    elif kind == op.MASK:
        layers.run_mask(ws, code, l, now)
    else:
        layers.run_backward_tangent(ws, code, l, now)


@handles(op.LOSS, op.LOSS_TANGENT, register=LANE_HANDLERS)
def handle_lane_loss(ws, job, code, l, now, t, part, parts):
    """Losses and deltas of the outputs."""
    if any_one(code, l).op == op.LOSS:
        losses.run(ws, job, code, l, now, t)
    else:
        losses.run_tangent(ws, job, code, l, now, t)


@handles(op.INPUT, op.PARAMETERS, op.DESCEND, op.RATES, op.MULTIPLY, register=LANE_HANDLERS)
def handle_lane_vectors(ws, job, code, l, now, t, part, parts):
    """Samples, moves of parameters and gradients, inner steps and what they leave."""
    kind = any_one(code, l).op
    if kind == op.INPUT:
        vectors.run_input(ws, job, code, l, now, t)
    elif kind == op.PARAMETERS:
        vectors.run_move(ws, job, code, l, now, t)
    elif kind == op.DESCEND:
        vectors.run_descend(ws, job, code, l, now, t)
    elif kind == op.RATES:
        vectors.run_rates_gradient(ws, job, code, l, now, t)
    else:
        vectors.run_multiply(ws, code, l, now)
