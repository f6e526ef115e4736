"""The network as integers: one row of int64 a layer, over one flat parameter vector `theta`; and the losses' numbers.

A vector of F features is an image of 1 x 1 x F. `WEIGHT` and `BIAS` are offsets into theta: a linear or
convolution layer's weight and bias, the scale and shift of a norm or an affine layer; -1 where a layer has none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.int64]

LINEAR, CONVOLUTION, BATCH_NORM, RELU, TANH, SOFTPLUS, MAX_POOL, GLOBAL_MEAN_POOL, FLATTEN, AFFINE = range(10)
LAYER_NORM, APPEND = 10, 11

# losses; LINEAR_LOSS and PROTOTYPES are the CPU's
SQUARED_ERROR, CROSS_ENTROPY, LINEAR_LOSS, PROTOTYPES, HUBER, POLICY = range(6)
POLICIES = ("categorical", "gaussian")  # the first constant of POLICY is a place here,
SURROGATES = ("log", "ratio", "clip", "kl")  # the second one here, the third the clip
LABELLED = (CROSS_ENTROPY, PROTOTYPES)  # losses whose targets are labels, not floats like the outputs

KIND, IN_H, IN_W, IN_C, OUT_H, OUT_W, OUT_C, KERNEL, STRIDE, PADDING, WEIGHT, BIAS = range(12)
FIELDS = 12

BATCH_NORM_EPSILON = 1e-5


def weight_size(row: NDArray[np.int64]) -> int:
    """Number of values at a row's WEIGHT offset; 0 for a layer without parameters."""
    kind = row[KIND]
    if kind == LINEAR:
        return int(row[IN_C] * row[OUT_C])
    if kind == CONVOLUTION:
        return int(row[KERNEL] ** 2 * row[IN_C] * row[OUT_C])
    if kind == APPEND:
        return int(row[OUT_C] - row[IN_C])
    return int(row[OUT_C]) if kind in (BATCH_NORM, AFFINE, LAYER_NORM) else 0


def blocks(table: Table) -> NDArray[np.int64]:
    """(V + 1,) boundaries of the V parameter arrays in theta; the last one is P."""
    edges = [0]
    for row in table:
        if row[WEIGHT] >= 0:
            edges.append(int(row[WEIGHT]) + weight_size(row))
        if row[BIAS] >= 0:
            edges.append(int(row[BIAS] + row[OUT_C]))
    return np.array(edges, np.int64)


def places(table: Table, chosen: Sequence[int]) -> NDArray[np.int64]:
    """(B,) indices into theta of the values of some of its V parameter arrays."""
    edges = blocks(table)
    return np.concatenate([np.arange(edges[i], edges[i + 1]) for i in chosen])


def parameter_count(table: Table) -> int:
    """P, the length of theta."""
    return int(blocks(table)[-1])


def input_shape(table: Table) -> tuple[int, ...]:
    """Shape of one sample of 1 x 1 x F or H x W x C."""
    return tuple(int(n) for n in table[0, IN_H : IN_C + 1])


def output_count(table: Table) -> int:
    """O, the number of outputs of one sample."""
    return int(np.prod(table[-1, OUT_H : OUT_C + 1]))
