"""Handlers: what carries out the instructions of a family, compiled when a program first has one of them.

A handler is machine code of its own, which a job finds by the number of an instruction: a network pays for the layers
that it has, and no compiler sees all kernels at once, which takes it more than twice as long.

Longer than 200 lines because it is the one table of all instructions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.cpu.execution.batch import compile_shares
from fastmeta_kernels.cpu.layers import activations, affine, append, layer_norm, narrow, pooling, products
from fastmeta_kernels.cpu.layers.batch_norm import pooled, pooled_tangents, tangents, values
from fastmeta_kernels.cpu.layers.winograd import images, tiles
from fastmeta_kernels.cpu.layers.winograd import products as winograd
from fastmeta_kernels.cpu.layout import instruction as op
from fastmeta_kernels.cpu.layout.instruction import any_one, share, step_of
from fastmeta_kernels.cpu.layout.job import code_of, job_of, schedule_of
from fastmeta_kernels.cpu.losses import losses, policies, prototypes
from fastmeta_kernels.cpu.machine.jit import compile_linked, inlined, linked, linked_address
from fastmeta_kernels.cpu.machine.product import compile_product
from fastmeta_kernels.cpu.program import parameters, pulls, samples

MOST_KINDS = 128  # of instructions
NEEDED = {op.HEAD: ("phase",), op.HEAD_BLOCKS: ("phase",)}  # what a handler calls by name
HANDLERS: dict[int, str] = {}  # kind of instruction -> its handler
_tables: dict[Any, NDArray[np.int64]] = {}  # dtype -> the address of each kind's handler
_lock = threading.Lock()


def handlers(dtype: Any, kinds: Iterable[int]) -> NDArray[np.int64]:
    """The table of handlers, ready for instructions of these kinds: compiled, or loaded, with what calls them."""
    lane = numba.from_dtype(dtype)
    with _lock:
        compile_product(lane)
        compile_shares(lane)
        table = _tables.setdefault(dtype, np.zeros(MOST_KINDS, np.int64))
        for kind in kinds:
            if table[kind] == 0:
                compile_linked(lane, *NEEDED.get(kind, ()), HANDLERS[kind])
                table[kind] = linked_address(HANDLERS[kind], lane)
    return table


def _handles(*kinds: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def register(function: Callable[..., None]) -> Callable[..., None]:
        body = inlined(function)

        def handle(ws, jobs, r, l, t, part, parts):
            job = job_of(jobs, 0)
            body(ws, job, code_of(job), l, step_of(schedule_of(job), r), t, part, parts)

        handle.__name__ = handle.__qualname__ = function.__name__  # machine code is named after it
        HANDLERS.update(dict.fromkeys(kinds, function.__name__))
        return linked(handle)

    return register


@_handles(op.PRODUCT, op.TRANSPOSE)
def handle_products(ws, job, code, l, now, t, part, parts):
    """Matrix products and the transposed weights that some of them read."""
    if any_one(code, l).op == op.PRODUCT:
        products.run_product(ws, job, code, l, now, part, parts)
    else:
        products.run_transpose(ws, code, l, now, part, parts)


@_handles(op.DOTS)
def handle_dots(ws, job, code, l, now, t, part, parts):
    """Narrow linear layers."""
    first, last = share(any_one(code, l).n, part, parts)
    narrow.run_dots(ws, code, l, now, first, last)


@_handles(op.BIAS)
def handle_bias(ws, job, code, l, now, t, part, parts):
    """Sums of a delta over a set."""
    first, last = values.vectors(ws, any_one(code, l).ocp, part, parts)
    values.run_bias_gradient(ws, code, l, now, first, last)


@_handles(op.MASK)
def handle_mask(ws, job, code, l, now, t, part, parts):
    """Derivatives of ReLUs that layers took over."""
    first, last = share(any_one(code, l).n, part, parts)
    activations.run_mask(ws, code, l, now, first, last)


@_handles(op.ACTIVATE, op.ACTIVATE_BACKWARD, op.ACTIVATE_TANGENT, op.ACTIVATE_BACKWARD_TANGENT)
def handle_activation(ws, job, code, l, now, t, part, parts):
    """ReLU, tanh and softplus."""
    it = any_one(code, l)
    first, last = share(it.n, part, parts)
    if it.op == op.ACTIVATE:
        activations.run_forward(ws, code, l, now, first, last)
    elif it.op == op.ACTIVATE_BACKWARD:
        activations.run_backward(ws, code, l, now, first, last)
    elif it.op == op.ACTIVATE_TANGENT:
        activations.run_forward_tangent(ws, code, l, now, first, last)
    else:
        activations.run_backward_tangent(ws, code, l, now, first, last)


@_handles(op.MAX_FORWARD, op.MAX_SELECT, op.MAX_BACKWARD)
def handle_max_pool(ws, job, code, l, now, t, part, parts):
    """Max pool."""
    it = any_one(code, l)
    first, last = share(it.n, part, parts)
    if it.op == op.MAX_FORWARD:
        pooling.run_max_forward(ws, code, l, now, first, last)
    elif it.op == op.MAX_SELECT:
        pooling.run_max_select(ws, code, l, now, first, last)
    else:
        pooling.run_max_backward(ws, code, l, now, first, last)


@_handles(op.MEAN_FORWARD, op.MEAN_BACKWARD, op.FLATTEN_FORWARD, op.FLATTEN_BACKWARD)
def handle_linear_map(ws, job, code, l, now, t, part, parts):
    """Global mean pool and the flattening copy."""
    it = any_one(code, l)
    first, last = share(it.n, part, parts)
    if it.op == op.MEAN_FORWARD:
        pooling.run_mean_forward(ws, code, l, now, first, last)
    elif it.op == op.MEAN_BACKWARD:
        pooling.run_mean_backward(ws, code, l, now, first, last)
    elif it.op == op.FLATTEN_FORWARD:
        pooling.run_flatten_forward(ws, code, l, now, first, last)
    else:
        pooling.run_flatten_backward(ws, code, l, now, first, last)


@_handles(op.NORM_FORWARD, op.NORM_BACKWARD, op.NORM_GRADIENT)
def handle_norm(ws, job, code, l, now, t, part, parts):
    """Batch norm."""
    if any_one(code, l).op == op.NORM_GRADIENT:
        values.run_gradient(ws, code, l, now)
    else:
        values.run(ws, code, l, now, part, parts)


@_handles(op.NORM_FORWARD_TANGENT, op.NORM_BACKWARD_TANGENT)
def handle_norm_tangent(ws, job, code, l, now, t, part, parts):
    """Tangents of batch norm."""
    tangents.run(ws, code, l, now, part, parts)


@_handles(op.POOL_FORWARD, op.POOL_SUMS, op.POOL_BACKWARD)
def handle_pooled_norm(ws, job, code, l, now, t, part, parts):
    """Batch norm with a pool behind it."""
    pooled.run(ws, code, l, now, part, parts)


@_handles(op.POOL_FORWARD_TANGENT, op.POOL_SUMS_TANGENT, op.POOL_BACKWARD_TANGENT)
def handle_pooled_norm_tangent(ws, job, code, l, now, t, part, parts):
    """Tangents of batch norm with a pool behind it."""
    pooled_tangents.run(ws, code, l, now, part, parts)


@_handles(op.AFFINE, op.AFFINE_GRADIENT)
def handle_affine(ws, job, code, l, now, t, part, parts):
    """Scale and shift of channels."""
    it = any_one(code, l)
    first, last = values.vectors(ws, it.cp, part, parts)
    if it.op == op.AFFINE:
        affine.run_map(ws, code, l, now, first, last)
    else:
        affine.run_gradient(ws, code, l, now, first, last)


@_handles(
    op.LAYER_NORM, op.LAYER_NORM_BACKWARD, op.LAYER_NORM_TANGENT, op.LAYER_NORM_BACKWARD_TANGENT,
    op.LAYER_NORM_GRADIENT,
)  # fmt: skip
def handle_layer_norm(ws, job, code, l, now, t, part, parts):
    """Layer norm."""
    it = any_one(code, l)
    if it.op == op.LAYER_NORM_GRADIENT:
        first, last = values.vectors(ws, it.cp, part, parts)
        layer_norm.run_gradient(ws, code, l, now, first, last)
        return
    first, last = share(it.n, part, parts)
    if it.op == op.LAYER_NORM:
        layer_norm.run_forward(ws, code, l, now, first, last)
    elif it.op == op.LAYER_NORM_BACKWARD:
        layer_norm.run_backward(ws, code, l, now, first, last)
    elif it.op == op.LAYER_NORM_TANGENT:
        layer_norm.run_forward_tangent(ws, code, l, now, first, last)
    else:
        layer_norm.run_backward_tangent(ws, code, l, now, first, last)


@_handles(op.APPEND, op.APPEND_BACKWARD, op.APPEND_GRADIENT)
def handle_append(ws, job, code, l, now, t, part, parts):
    """Learned values behind the features."""
    it = any_one(code, l)
    first, last = share(it.n, part, parts)
    if it.op == op.APPEND:
        append.run_forward(ws, code, l, now, first, last)
    elif it.op == op.APPEND_BACKWARD:
        append.run_backward(ws, code, l, now, first, last)
    else:
        append.run_gradient(ws, code, l, now)


@_handles(op.WINOGRAD, op.WINOGRAD_WEIGHT, op.WINOGRAD_SUMS, op.WINOGRAD_GRADIENT)
def handle_winograd(ws, job, code, l, now, t, part, parts):
    """Convolutions by tiles."""
    kind = any_one(code, l).op
    if kind == op.WINOGRAD:
        winograd.run_convolve(ws, job, code, l, now, part, parts, tiles.values, tiles.outputs)
    elif kind == op.WINOGRAD_SUMS:
        winograd.run_sums(ws, job, code, l, now, part, parts, tiles.values)
    elif kind == op.WINOGRAD_WEIGHT:
        winograd.run_weight(ws, job, code, l, now, part, parts, tiles.weights)
    else:
        winograd.run_gradient(ws, job, code, l, now, part, parts, tiles.taps)


@_handles(op.PHASES, op.PHASES_WEIGHT, op.PHASES_SUMS, op.PHASES_GRADIENT)
def handle_phases(ws, job, code, l, now, t, part, parts):
    """Convolutions by phases."""
    kind = any_one(code, l).op
    if kind == op.PHASES:
        winograd.run_convolve(ws, job, code, l, now, part, parts, images.values, images.outputs)
    elif kind == op.PHASES_SUMS:
        winograd.run_sums(ws, job, code, l, now, part, parts, images.values)
    elif kind == op.PHASES_WEIGHT:
        winograd.run_weight(ws, job, code, l, now, part, parts, images.weights)
    else:
        winograd.run_gradient(ws, job, code, l, now, part, parts, images.taps)


@_handles(op.INPUT, op.MOVE, op.OUTPUT)
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


@_handles(op.LOSS, op.LOSS_TANGENT)
def handle_loss(ws, job, code, l, now, t, part, parts):
    """Losses and deltas of the outputs."""
    if any_one(code, l).op == op.LOSS:
        losses.run(ws, job, code, l, now, t)
    else:
        losses.run_tangent(ws, job, code, l, now, t)


@_handles(op.POLICY_LOSS, op.POLICY_TANGENT, op.POLICY_METRIC)
def handle_policy(ws, job, code, l, now, t, part, parts):
    """Losses of policies and the Fisher metric of their outputs."""
    kind = any_one(code, l).op
    if kind == op.POLICY_LOSS:
        policies.run(ws, job, code, l, now, t)
    elif kind == op.POLICY_TANGENT:
        policies.run_tangent(ws, job, code, l, now, t)
    else:
        policies.run_metric(ws, job, code, l, now, t)


@_handles(op.SAMPLE_SLOPES)
def handle_slopes(ws, job, code, l, now, t, part, parts):
    """The gradient by the support weights."""
    losses.run_slopes(ws, job, code, l, now, t)


@_handles(op.PULL, op.PULL_BACK)
def handle_pulls(ws, job, code, l, now, t, part, parts):
    """Weight decay and the proximal term."""
    if any_one(code, l).op == op.PULL:
        pulls.run_pull(ws, job, code, l, now, t)
    else:
        pulls.run_pull_back(ws, job, code, l, now, t)


@_handles(op.HEAD, op.HEAD_BLOCKS)
def handle_head(ws, job, code, l, now, t, part, parts):
    """The prototype head."""
    if any_one(code, l).op == op.HEAD:
        prototypes.run_phase(ws, job, code, l, t)
    else:
        prototypes.run_blocks(ws, job, t, part, parts)


@_handles(op.PARAMETERS, op.DESCEND, op.RATES, op.MULTIPLY)
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
