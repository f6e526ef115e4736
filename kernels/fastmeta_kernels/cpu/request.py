"""What is asked of a program, apart from the data: kind of job, network, sizes, steps."""

from __future__ import annotations

from typing import NamedTuple

from fastmeta_kernels.contract import Loss, PrototypeHead

PREDICT, LOSS, GRADIENT, HVP, ADAPT, META = range(6)


class Request(NamedTuple):
    """All that decides a program; what it computes on comes with the job."""

    kind: int
    table: bytes
    itemsize: int
    support: int  # samples
    query: int
    support_loss: Loss
    query_loss: Loss
    support_weighted: bool
    query_weighted: bool
    steps: int = 0
    order: int = 2
    memory: str = "auto"
    rates: tuple[int, int] = (1, 1)  # rows, and rates in each
    adapted: tuple[int, int] = (0, 0)
    stepwise: tuple[int, ...] = ()  # parameter arrays that are each step's own
    losses: tuple[bool, ...] = ()  # whether phi_0 .. phi_S have a query loss; (): phi_S alone
    head: tuple[int, PrototypeHead] | None = None  # and its support samples
    winograd: str = "auto"
