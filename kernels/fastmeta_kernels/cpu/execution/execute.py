"""Carries out one instruction, or one thread's part of it."""

from __future__ import annotations

from fastmeta_kernels.cpu.layers import activations as activation
from fastmeta_kernels.cpu.layers import affine, narrow, pooling
from fastmeta_kernels.cpu.layers.batch_norm import pooled as norm_pool
from fastmeta_kernels.cpu.layers.batch_norm import pooled_tangents as norm_pool_tangent
from fastmeta_kernels.cpu.layers.batch_norm import tangents as batch_norm_tangent
from fastmeta_kernels.cpu.layers.batch_norm import values as batch_norm
from fastmeta_kernels.cpu.layers.batch_norm.values import vectors
from fastmeta_kernels.cpu.layers.products import run_product
from fastmeta_kernels.cpu.layers.winograd import convolution as winograd
from fastmeta_kernels.cpu.layout import instruction as op
from fastmeta_kernels.cpu.layout.instruction import (
    ARGUMENTS,
    BEGIN,
    CHANNELS,
    END,
    OP,
    OWN,
    SAMPLES,
    SIGN,
    SPLIT,
    place,
    share,
)
from fastmeta_kernels.cpu.layout.job import code_of, rows_of, schedule_of
from fastmeta_kernels.cpu.layout.network import CP, OCP, X_N, Y_N, N
from fastmeta_kernels.cpu.losses import losses, prototypes
from fastmeta_kernels.cpu.machine.jit import inlined, linked
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES, transpose
from fastmeta_kernels.cpu.program import parameters, samples


@inlined
def run_transpose(ws, code, l, schedule, r, part, parts):
    """A matrix (rows, columns) in whole vectors, by vectors of rows."""
    width = VECTOR_BYTES // ws.itemsize
    source, target = place(schedule, r, code[l, ARGUMENTS]), place(schedule, r, code[l, ARGUMENTS + 2])
    ld, ldt, columns = code[l, ARGUMENTS + 1], code[l, ARGUMENTS + 3], code[l, ARGUMENTS + 5]
    first, last = share(code[l, ARGUMENTS + 4] // width, part, parts)
    for i in range(first * width, last * width, width):
        for j in range(0, columns, width):
            transpose(ws, source + i * ld + j, ld, target + j * ldt + i, ldt)


@inlined
def run_norm(ws, code, l, kind, schedule, r, part, parts):
    """Batch norm, with or without a pool behind it."""
    if kind == op.NORM_FORWARD or kind == op.NORM_BACKWARD:
        batch_norm.run(ws, code, l, schedule, r, part, parts)
    elif kind == op.NORM_FORWARD_TANGENT or kind == op.NORM_BACKWARD_TANGENT:
        batch_norm_tangent.run(ws, code, l, schedule, r, part, parts)
    elif kind == op.POOL_FORWARD or kind == op.POOL_SUMS or kind == op.POOL_BACKWARD:
        norm_pool.run(ws, code, l, schedule, r, part, parts)
    else:
        norm_pool_tangent.run(ws, code, l, schedule, r, part, parts)


@inlined
def run_samples(ws, code, l, kind, n, x, y, a, b, c, d, e, f):
    """Instructions dealt by samples: a .. e are their operands; x and y scalars lie before the part's first sample."""
    if kind == op.MASK:
        activation.mask_relu(ws, code, l, n, a + y, b + y)
    elif kind == op.DOTS:
        narrow.dots(ws, code, l, n, a + x, b, c, d + y, e + x, f)
    elif kind == op.ACTIVATE:
        activation.forward(ws, code, l, n, a + x, b + y)
    elif kind == op.ACTIVATE_BACKWARD:
        activation.backward(ws, code, l, n, a + y, b + y, c + x)
    elif kind == op.ACTIVATE_TANGENT:
        activation.forward_tangent(ws, code, l, n, a + y, b + x, c + y)
    elif kind == op.ACTIVATE_BACKWARD_TANGENT:
        activation.backward_tangent(ws, code, l, n, a + y, b + x, c + y, d + y, e + x)
    elif kind == op.MAX_FORWARD:
        pooling.max_forward(ws, code, l, n, a + x, b + y)
    elif kind == op.MAX_SELECT:
        pooling.max_select(ws, code, l, n, a + x, b + y, c + x, d + y)
    elif kind == op.MAX_BACKWARD:
        pooling.max_backward(ws, code, l, n, a + x, b + y, c + y, d + x)
    elif kind == op.MEAN_FORWARD:
        pooling.mean_forward(ws, code, l, n, a + x, b + y)
    elif kind == op.MEAN_BACKWARD:
        pooling.mean_backward(ws, code, l, n, c + y, d + x)
    elif kind == op.FLATTEN_FORWARD:
        pooling.flatten_forward(ws, code, l, n, a + x, b + y)
    elif kind == op.FLATTEN_BACKWARD:
        pooling.flatten_backward(ws, code, l, n, c + y, d + x)


@inlined
def run_channels_gradient(ws, code, l, kind, n, first, last, a, b, c, sign):
    """Gradients of biases, scales and shifts."""
    if kind == op.BIAS:
        batch_norm.bias_gradient(ws, code, l, n, first, last, a, b, sign)
    else:
        batch_norm.gradient(ws, code, l, a, b, c, sign)


@inlined
def _one(ws, job, code, schedule, r, l, t, part, parts):
    """One part of an instruction; all of it where it is not one that threads share."""
    kind, split = code[l, OP], code[l, SPLIT]
    if kind == op.PRODUCT:
        run_product(ws, job, code, l, schedule, r, part, parts)
        return
    if split == OWN:
        if kind == op.TRANSPOSE:
            run_transpose(ws, code, l, schedule, r, part, parts)
        elif kind == op.PARAMETERS:
            parameters.run_move(ws, job, code, l, schedule, r, t, part, parts)
        elif kind == op.HEAD_BLOCKS:
            prototypes.run_blocks(ws, job, t, part, parts)
        elif op.NORM_FORWARD <= kind <= op.POOL_BACKWARD_TANGENT:
            run_norm(ws, code, l, kind, schedule, r, part, parts)
        elif kind == op.WINOGRAD:
            winograd.run_convolve(ws, job, code, l, schedule, r, part, parts)
        elif kind == op.WINOGRAD_SUMS:
            winograd.run_sums(ws, job, code, l, schedule, r, part, parts)
        elif kind == op.WINOGRAD_WEIGHT or kind == op.WINOGRAD_GRADIENT:
            winograd.run_weight(ws, job, code, l, schedule, r, part, parts)
        elif kind == op.DESCEND:
            parameters.run_descend(ws, job, code, l, schedule, r, t, part, parts)
        return
    n = code[l, N]
    a, b, c = (
        place(schedule, r, code[l, ARGUMENTS]),
        place(schedule, r, code[l, ARGUMENTS + 1]),
        place(schedule, r, code[l, ARGUMENTS + 2]),
    )
    d, e, f = (
        place(schedule, r, code[l, ARGUMENTS + 3]),
        place(schedule, r, code[l, ARGUMENTS + 4]),
        place(schedule, r, code[l, ARGUMENTS + 5]),
    )
    if split == SAMPLES:
        low, high = share(n, part, parts)
        if kind == op.INPUT:
            samples.read(ws, job, code, l, t, low, high, b)
        else:
            run_samples(ws, code, l, kind, high - low, low * code[l, X_N], low * code[l, Y_N], a, b, c, d, e, f)
        return
    sign = ws.dtype.type(schedule[r, SIGN])
    if kind == op.BIAS or kind == op.NORM_GRADIENT:
        first, last = vectors(ws, code[l, OCP], part, parts)
        run_channels_gradient(ws, code, l, kind, n, first, last, a, b, c, sign)
    elif split == CHANNELS:
        first, last = vectors(ws, code[l, CP], part, parts)
        if kind == op.AFFINE:
            affine.run(ws, code, l, n, first, last, a, b, c, d, e, f)
        elif kind == op.AFFINE_GRADIENT:
            affine.run_gradient(ws, code, l, n, first, last, a, b, c, d, e, f, sign)
    elif kind == op.MOVE:
        samples.move(ws, code, l, n, a, b)
    elif kind == op.LOSS:
        losses.run(ws, job, code, l, schedule, r, t)
    elif kind == op.LOSS_TANGENT:
        losses.run_tangent(ws, job, code, l, schedule, r, t)
    elif kind == op.OUTPUT:
        samples.write(ws, job, code, l, t, b)
    elif kind == op.HEAD:
        prototypes.run_phase(ws, job, code, l, t)
    elif kind == op.RATES:
        parameters.run_rates_gradient(ws, job, code, l, schedule, r, t)
    elif kind == op.MULTIPLY:
        parameters.run_multiply(ws, code, l, schedule, r)


@linked
def instruct(ws, jobs, r, l, t, part, parts):
    """One part of instruction l at step r of the schedule, for task t; r = l = -1: its schedule."""
    job = jobs[0]
    code, schedule = code_of(job), schedule_of(job)
    steps = rows_of(job, t) if r < 0 else (r, r + 1)
    for step in range(steps[0], steps[1]):
        lines = (schedule[step, BEGIN], schedule[step, END]) if l < 0 else (l, l + 1)
        for line in range(lines[0], lines[1]):
            _one(ws, job, code, schedule, step, line, t, part, parts)
