"""How the prototype head lies in memory: one record of sizes, places of the data and offsets of what it keeps."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.contract import PrototypeHead
from fastmeta_kernels.cpu.layout.layer import CACHE_LINE, Room
from fastmeta_kernels.cpu.layout.record import record_of, row_as
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES

# Sizes, with kp and dp the next whole vectors; where the data are: addresses if external, else offsets into the
# workspace (labels and the scale are always addresses; no logits are written where `logits` is 0); offsets of what the
# head keeps.
HEAD = record_of(
    "n m k d kp dp blocks cosine external support query d_support d_query y_support y_query scale logits "
    "zeros mean c ct f b weight share x a norms dc sums loss qp dqp"
)
FIELDS = HEAD.itemsize // 8
ROWS_OF_A_BLOCK = 84


head_of = row_as(HEAD)  # of an int64 (1, FIELDS)


class Layout(NamedTuple):
    """A head but for the data's fields, and the scalars of its workspace."""

    head: NDArray[np.void]  # ()
    size: int
    scale: NDArray[Any]


@lru_cache(maxsize=256)
def layout(head: PrototypeHead, support: int, query: int, width: int, dtype: Any, start: int = 0) -> Layout:
    """The head for N and M embeddings of `width` scalars, its workspace from offset `start` on."""
    line, lanes = CACHE_LINE // dtype.itemsize, VECTOR_BYTES // dtype.itemsize
    kp, dp = (-(-n // lanes) * lanes for n in (head.ways, width))
    blocks = -(-query // ROWS_OF_A_BLOCK)
    padded = query * dp if dp != width else 0
    one = np.zeros((), HEAD)
    sizes = {"n": support, "m": query, "k": head.ways, "d": width, "kp": kp, "dp": dp, "blocks": blocks}
    for name, value in (sizes | {"cosine": head.metric == "cosine"}).items():
        one[name] = value
    room = Room(line)
    room.size = start
    for name, count in (
        ("zeros", max(kp, dp)), ("mean", dp), ("c", kp * dp), ("ct", dp * kp), ("f", kp), ("b", kp), ("weight", kp),
        ("share", kp), ("x", query * kp), ("a", query * kp), ("norms", query), ("dc", blocks * kp * dp),
        ("sums", blocks * kp), ("loss", blocks + 1), ("qp", padded), ("dqp", padded),
    ):  # fmt: skip
        one[name] = room.take(count)
    return Layout(one, room.size, np.array([head.scale], dtype))


def place_over(one: NDArray[np.void], outputs: int, deltas: int) -> NDArray[np.void]:
    """A head over the outputs of a network, support before query, in a workspace; deltas: where gradients go."""
    one, support = one.copy(), one["n"] * one["d"]
    places = {"support": outputs, "query": outputs + support, "d_support": deltas, "d_query": deltas + support}
    for name, value in places.items():
        one[name] = value
    return one
