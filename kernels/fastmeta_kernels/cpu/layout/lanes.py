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
KINDS = {lt.LINEAR, lt.RELU, lt.TANH, lt.SOFTPLUS, lt.FLATTEN}
LOSSES = (lt.SQUARED_ERROR, lt.CROSS_ENTROPY, lt.HUBER)
FEWEST_BLOCKS = 2  # full ones: fewer leave threads without work ..
FEWEST_BRIEF = 0.75  # .. of one inner step this share of them, whose second has free lanes
MOST_PARAMETERS, MOST_VALUES = 1 << 19, 3 << 18  # bytes of a block's: a vector of parameters, a set of samples


def lanes_of(itemsize: int) -> int:
    """Tasks of a block."""
    return VECTOR_BYTES // itemsize


def scalar_bytes(request: Request) -> int:
    """Bytes of what a program takes for a scalar."""
    return VECTOR_BYTES if request.variant == LANES else request.dtype.itemsize


def takes_lanes(request: Request) -> bool:
    """Whether a meta-gradient goes by tasks in lanes: of a small MLP, of two blocks of tasks at least.

    What a block writes is to stay in the second cache. Of one exact step that is less, as no task has weights of its
    own. Measured with 1 .. 1,000 tasks, 1 .. 20 steps, widths of 10 .. 256, 5 .. 200 samples.
    """
    blocks = request.tasks / lanes_of(request.dtype.itemsize)
    brief, full = request.steps == 1, blocks >= FEWEST_BLOCKS
    enough = full or (brief and blocks >= FEWEST_BRIEF * FEWEST_BLOCKS)
    share = 0.5 if not full else 1.5 if brief and request.order == 2 else 1.0
    unusual = request.thetas > 1 or request.each_task or request.each_weight or request.pulled or request.blocks > 0
    if request.kind != "meta_gradient" or not enough or unusual:
        return False
    if any(data.loss is None or data.loss.kind not in LOSSES for data in (request.inner, request.query)):
        return False
    samples = max(request.inner.samples, request.query.samples)
    parameters, values = _sizes(request.table)
    few = parameters * VECTOR_BYTES <= share * MOST_PARAMETERS
    return parameters > 0 and few and samples * values * VECTOR_BYTES <= min(share, 1.0) * MOST_VALUES


@lru_cache(maxsize=256)
def _sizes(table: bytes) -> tuple[int, int]:
    """P of an MLP, 0 of another network, and the values and deltas of a sample."""
    rows = np.frombuffer(table, np.int64).reshape(-1, lt.FIELDS)
    kinds = rows[:, lt.KIND].tolist()
    first = kinds[1] if kinds[0] == lt.FLATTEN and len(kinds) > 1 else kinds[0]  # only it reads an image
    if first != lt.LINEAR or not set(kinds) <= KINDS:
        return 0, 0
    linear = rows[rows[:, lt.KIND] == lt.LINEAR]
    inputs, outputs = (linear[:, of : of + 3].prod(axis=1) for of in (lt.IN_H, lt.OUT_H))
    return int(((inputs + 1) * outputs).sum()), int(inputs[0] + 2 * outputs.sum())
