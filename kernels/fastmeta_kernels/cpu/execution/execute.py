"""Carries out one instruction, or one thread's part of it."""

from __future__ import annotations

from fastmeta_kernels.cpu.layers import activations, affine, layer_norm, narrow, pooling, products
from fastmeta_kernels.cpu.layers.batch_norm import pooled, pooled_tangents, tangents, values
from fastmeta_kernels.cpu.layers.winograd import convolution as winograd
from fastmeta_kernels.cpu.layout import instruction as op
from fastmeta_kernels.cpu.layout.instruction import CHANNELS, OWN, SAMPLES, any_one, share, step_of
from fastmeta_kernels.cpu.layout.job import code_of, job_of, rows_of, schedule_of
from fastmeta_kernels.cpu.losses import losses, prototypes
from fastmeta_kernels.cpu.machine.jit import inlined, linked
from fastmeta_kernels.cpu.program import parameters, samples


@inlined
def run_norm(ws, code, l, kind, now, part, parts):
    """Batch norm, with or without a pool behind it."""
    if kind == op.NORM_FORWARD or kind == op.NORM_BACKWARD:
        values.run(ws, code, l, now, part, parts)
    elif kind == op.NORM_FORWARD_TANGENT or kind == op.NORM_BACKWARD_TANGENT:
        tangents.run(ws, code, l, now, part, parts)
    elif kind == op.POOL_FORWARD or kind == op.POOL_SUMS or kind == op.POOL_BACKWARD:
        pooled.run(ws, code, l, now, part, parts)
    else:
        pooled_tangents.run(ws, code, l, now, part, parts)


@inlined
def run_own(ws, job, code, l, kind, now, t, part, parts):
    """Instructions that deal themselves to threads."""
    if kind == op.TRANSPOSE:
        products.run_transpose(ws, code, l, now, part, parts)
    elif kind == op.PARAMETERS:
        parameters.run_move(ws, job, code, l, now, t, part, parts)
    elif kind == op.HEAD_BLOCKS:
        prototypes.run_blocks(ws, job, t, part, parts)
    elif op.NORM_FORWARD <= kind <= op.POOL_BACKWARD_TANGENT:
        run_norm(ws, code, l, kind, now, part, parts)
    elif kind == op.WINOGRAD:
        winograd.run_convolve(ws, job, code, l, now, part, parts)
    elif kind == op.WINOGRAD_SUMS:
        winograd.run_sums(ws, job, code, l, now, part, parts)
    elif kind == op.WINOGRAD_WEIGHT:
        winograd.run_weight(ws, job, code, l, now, part, parts)
    elif kind == op.WINOGRAD_GRADIENT:
        winograd.run_gradient(ws, job, code, l, now, part, parts)
    elif kind == op.DESCEND:
        parameters.run_descend(ws, job, code, l, now, t, part, parts)


@inlined
def run_samples(ws, job, code, l, kind, now, t, first, last):
    """Instructions dealt by samples."""
    if kind == op.INPUT:
        samples.run_input(ws, job, code, l, now, t, first, last)
    elif kind == op.MASK:
        activations.run_mask(ws, code, l, now, first, last)
    elif kind == op.DOTS:
        narrow.run_dots(ws, code, l, now, first, last)
    elif kind == op.ACTIVATE:
        activations.run_forward(ws, code, l, now, first, last)
    elif kind == op.ACTIVATE_BACKWARD:
        activations.run_backward(ws, code, l, now, first, last)
    elif kind == op.ACTIVATE_TANGENT:
        activations.run_forward_tangent(ws, code, l, now, first, last)
    elif kind == op.ACTIVATE_BACKWARD_TANGENT:
        activations.run_backward_tangent(ws, code, l, now, first, last)
    elif kind == op.MAX_FORWARD:
        pooling.run_max_forward(ws, code, l, now, first, last)
    elif kind == op.MAX_SELECT:
        pooling.run_max_select(ws, code, l, now, first, last)
    elif kind == op.MAX_BACKWARD:
        pooling.run_max_backward(ws, code, l, now, first, last)
    elif kind == op.MEAN_FORWARD:
        pooling.run_mean_forward(ws, code, l, now, first, last)
    elif kind == op.MEAN_BACKWARD:
        pooling.run_mean_backward(ws, code, l, now, first, last)
    elif kind == op.LAYER_NORM:
        layer_norm.run_forward(ws, code, l, now, first, last)
    elif kind == op.LAYER_NORM_BACKWARD:
        layer_norm.run_backward(ws, code, l, now, first, last)
    elif kind == op.LAYER_NORM_TANGENT:
        layer_norm.run_forward_tangent(ws, code, l, now, first, last)
    elif kind == op.LAYER_NORM_BACKWARD_TANGENT:
        layer_norm.run_backward_tangent(ws, code, l, now, first, last)
    elif kind == op.FLATTEN_FORWARD:
        pooling.run_flatten_forward(ws, code, l, now, first, last)
    elif kind == op.FLATTEN_BACKWARD:
        pooling.run_flatten_backward(ws, code, l, now, first, last)


@inlined
def run_channels(ws, code, l, kind, now, it, part, parts):
    """Instructions dealt by vectors of channels."""
    if kind == op.BIAS:
        first, last = values.vectors(ws, it.ocp, part, parts)
        values.run_bias_gradient(ws, code, l, now, first, last)
        return
    first, last = values.vectors(ws, it.cp, part, parts)
    if kind == op.AFFINE:
        affine.run_map(ws, code, l, now, first, last)
    elif kind == op.AFFINE_GRADIENT:
        affine.run_gradient(ws, code, l, now, first, last)
    elif kind == op.LAYER_NORM_GRADIENT:
        layer_norm.run_gradient(ws, code, l, now, first, last)


@inlined
def run_serial(ws, job, code, l, kind, now, t):
    """Instructions that one thread carries out."""
    if kind == op.NORM_GRADIENT:
        values.run_gradient(ws, code, l, now)
    elif kind == op.MOVE:
        samples.run_move(ws, code, l, now)
    elif kind == op.LOSS:
        losses.run(ws, job, code, l, now, t)
    elif kind == op.LOSS_TANGENT:
        losses.run_tangent(ws, job, code, l, now, t)
    elif kind == op.OUTPUT:
        samples.run_output(ws, job, code, l, now, t)
    elif kind == op.HEAD:
        prototypes.run_phase(ws, job, code, l, t)
    elif kind == op.RATES:
        parameters.run_rates_gradient(ws, job, code, l, now, t)
    elif kind == op.MULTIPLY:
        parameters.run_multiply(ws, code, l, now)


@inlined
def _one(ws, job, code, l, now, t, part, parts):
    """One part of an instruction; all of it where it is not one that threads share."""
    it = any_one(code, l)
    kind, split = it.op, it.split
    if kind == op.PRODUCT:
        products.run_product(ws, job, code, l, now, part, parts)
    elif split == OWN:
        run_own(ws, job, code, l, kind, now, t, part, parts)
    elif split == SAMPLES:
        first, last = share(it.n, part, parts)
        run_samples(ws, job, code, l, kind, now, t, first, last)
    elif split == CHANNELS:
        run_channels(ws, code, l, kind, now, it, part, parts)
    else:
        run_serial(ws, job, code, l, kind, now, t)


@linked
def instruct(ws, jobs, r, l, t, part, parts):
    """One part of instruction l at step r of the schedule, for task t; r = l = -1: its schedule."""
    job = job_of(jobs, 0)
    code, schedule = code_of(job), schedule_of(job)
    steps = rows_of(job, t) if r < 0 else (r, r + 1)
    for step in range(steps[0], steps[1]):
        now = step_of(schedule, step)
        lines = (now.begin, now.end) if l < 0 else (l, l + 1)
        for line in range(lines[0], lines[1]):
            _one(ws, job, code, line, now, t, part, parts)
