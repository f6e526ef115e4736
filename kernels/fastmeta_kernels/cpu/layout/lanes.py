"""Which requests go by tasks in lanes: every scalar of a task is a machine vector, whose lanes are as many tasks.

A program is then one for a block of tasks, and its offsets count vectors. The rule goes by the request alone.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES
from fastmeta_kernels.request import Request

LANES = "lanes"  # the variant of a request
LAYERS = (lt.LINEAR, lt.RELU, lt.TANH, lt.SOFTPLUS, lt.FLATTEN)
LOSSES = (lt.SQUARED_ERROR, lt.CROSS_ENTROPY, lt.HUBER)
MOST_BYTES = 1 << 20  # of a block's parameters, and of the values and deltas of one of its steps: of a second cache


def lanes_of(itemsize: int) -> int:
    """Tasks of a block."""
    return VECTOR_BYTES // itemsize


def scalar_bytes(request: Request) -> int:
    """Bytes of what a program takes for a scalar."""
    return VECTOR_BYTES if request.variant == LANES else request.dtype.itemsize


def takes_lanes(request: Request) -> bool:
    """Whether a meta-gradient of a small MLP goes by tasks in lanes.

    A block costs the same whatever is in it, half a block's tasks as much by themselves. Measured with 1 .. 1,000
    tasks, 1 .. 5 steps, widths of 10 .. 256, 5 .. 100 samples.
    """
    if request.kind != "meta_gradient" or 2 * request.tasks < lanes_of(request.dtype.itemsize):
        return False
    unusual = request.thetas > 1 or request.each_task or request.each_weight or request.pulled
    losses = [data.loss.kind if data.loss else -1 for data in (request.inner, request.query)]
    if unusual or any(kind not in LOSSES for kind in losses):
        return False
    parameters, values = _sizes(request.table)
    samples = max(request.inner.samples, request.query.samples)
    return parameters > 0 and max(parameters, 2 * values * samples) * VECTOR_BYTES <= MOST_BYTES


@lru_cache(maxsize=256)
def _sizes(table: bytes) -> tuple[int, int]:
    """P of a network of such layers, 0 of another one, and its values of a sample."""
    rows = np.frombuffer(table, np.int64).reshape(-1, lt.FIELDS)
    kinds = rows[:, lt.KIND].tolist()
    if not set(kinds) <= set(LAYERS) or lt.LINEAR not in (kinds[0], *(kinds[1:2] if kinds[0] == lt.FLATTEN else ())):
        return 0, 0
    linear = rows[rows[:, lt.KIND] == lt.LINEAR]
    inputs = linear[:, lt.IN_H : lt.IN_C + 1].prod(axis=1)
    outputs = linear[:, lt.OUT_H : lt.OUT_C + 1].prod(axis=1)
    return int(((inputs + 1) * outputs).sum()), int(inputs[:1].sum() + outputs.sum())
