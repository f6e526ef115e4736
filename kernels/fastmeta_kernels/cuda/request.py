"""What a call computes, but for its numbers: sizes, and which arrays there are."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastmeta_kernels.contract import Loss, PrototypeHead


class SetShape(NamedTuple):
    """N samples of each task, weighted or not, and their loss, if they have one."""

    samples: int
    weighted: bool = False
    loss: Loss | None = None


class Request(NamedTuple):
    """What to compute, but for the numbers: calls with equal requests run the same launches."""

    kind: str  # a function of the contract
    table: bytes
    dtype: np.dtype[Any]
    tasks: int
    query: SetShape  # the only set, but for meta_gradient
    support: SetShape | None = None
    thetas: int = 1  # 1 or T
    directions: int = 1
    steps: int = 0
    rates: tuple[int, int] = (1, 1)
    adapted: tuple[int, int] = (0, 0)
    order: int = 2
    stash: bool = True
    losses: tuple[bool, ...] = ()  # whether phi_0 .. phi_S have a query loss; () is phi_S alone, unweighted
    own: tuple[int, ...] = ()  # parameter arrays that are each step's own
    head: PrototypeHead | None = None
    width: int = 0  # of embeddings that no network gives
    precision: str = "fp32"  # of the products of layers; see `machine.precision`
