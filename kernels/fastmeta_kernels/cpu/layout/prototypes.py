"""How the prototype head lies in memory: one int64 array of sizes, places of the data and offsets of what it keeps."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.contract import PrototypeHead
from fastmeta_kernels.cpu.layout.network import CACHE_LINE
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES

# Fields of a head (1, FIELDS). Sizes, with KP and DP the next whole vectors; where the data are: addresses if EXTERNAL,
# else offsets into the workspace (labels and the scale are always addresses; no logits are written where LOGITS is 0);
# offsets of what the head keeps.
(
    TASKS, N, M, K, D, KP, DP, BLOCKS, BY_BLOCKS, COSINE, EXTERNAL, SIZE,
    SUPPORT, QUERY, D_SUPPORT, D_QUERY, Y_SUPPORT, Y_QUERY, SCALE, LOSSES, LOGITS,
    ZEROS, MEAN, C, CT, F, B, WEIGHT, SHARE, X, A, NORMS, DC, SUMS, LOSS, QP, DQP,
) = range(37)  # fmt: skip
FIELDS = 37
ROWS_OF_A_BLOCK = 84


class Layout(NamedTuple):
    """A head's fields but for the data's, and the scalars of its workspace."""

    fields: NDArray[np.int64]
    size: int
    scale: NDArray[Any]


@lru_cache(maxsize=256)
def layout(head: PrototypeHead, support: int, query: int, width: int, dtype: Any, start: int = 0) -> Layout:
    """The head for N and M embeddings of `width` scalars, its workspace from offset `start` on."""
    line, lanes = CACHE_LINE // dtype.itemsize, VECTOR_BYTES // dtype.itemsize
    kp, dp = (-(-n // lanes) * lanes for n in (head.ways, width))
    blocks = -(-query // ROWS_OF_A_BLOCK)
    padded = query * dp if dp != width else 0
    fields = np.zeros(FIELDS, np.int64)
    fields[[N, M, K, D, KP, DP, BLOCKS]] = support, query, head.ways, width, kp, dp, blocks
    fields[COSINE] = head.metric == "cosine"
    size = start
    for field, count in (
        (ZEROS, max(kp, dp)), (MEAN, dp), (C, kp * dp), (CT, dp * kp), (F, kp), (B, kp), (WEIGHT, kp), (SHARE, kp),
        (X, query * kp), (A, query * kp), (NORMS, query), (DC, blocks * kp * dp), (SUMS, blocks * kp),
        (LOSS, blocks + 1), (QP, padded), (DQP, padded),
    ):  # fmt: skip
        fields[field] = size
        size += -(-count // line) * line
    fields[SIZE] = size
    return Layout(fields, size, np.array([head.scale], dtype))


def place_over(fields: NDArray[np.int64], outputs: int, deltas: int) -> NDArray[np.int64]:
    """A head over the outputs of a network, support before query, in a workspace; deltas: where gradients go."""
    fields, support = fields.copy(), fields[N] * fields[D]
    fields[[SUPPORT, QUERY, D_SUPPORT, D_QUERY]] = outputs, outputs + support, deltas, deltas + support
    return fields
