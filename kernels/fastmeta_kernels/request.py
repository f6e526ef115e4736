"""What a call computes, but for its numbers: calls with equal requests run the same program."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.contract import Loss, PrototypeHead


class SetShape(NamedTuple):
    """N samples of each task, weighted or not, and their loss, if they have one."""

    samples: int
    weighted: bool = False
    loss: Loss | None = None


class Request(NamedTuple):
    """A function of the contract, the sizes of its arrays, and which of them there are."""

    kind: str  # the function's name
    table: bytes
    dtype: np.dtype[Any]
    tasks: int
    query: SetShape  # the only set, but for meta_gradient and prototypes
    support: SetShape | None = None
    thetas: int = 1  # 1 or T
    directions: int = 1
    steps: int = 0
    rates: tuple[int, int] = (1, 1)  # rows, and rates in each
    adapted: tuple[int, int] = (0, 0)
    order: int = 2
    stash: bool = True
    query_loss_steps: tuple[bool, ...] = ()  # whether phi_0 .. phi_S have a query loss; () is phi_S alone, unweighted
    step_parameters: tuple[int, ...] = ()  # parameter arrays that are each step's own
    pulled: bool = False  # whether inner steps have weight decay and a proximal term
    each_task: bool = False  # whether each task's meta-gradient is a result
    each_weight: bool = False  # whether the gradient by the support weights is
    blocks: int = 0  # equal blocks of the tasks, over each of which means are taken; 0: over all tasks
    head: PrototypeHead | None = None
    width: int = 0  # of embeddings that no network gives
    variant: str = ""  # how a backend computes it, where there is more than one way

    @property
    def inner(self) -> SetShape:
        """The set of the inner loop."""
        return self.support or self.query

    def of_one_task(self) -> Request:
        """The same for any number of tasks."""
        return self._replace(tasks=1, thetas=1, directions=1, blocks=0)


def stash_bytes(request: Request) -> int:
    """Bytes that one task's inner steps leave, where each keeps its own values and deltas."""
    return request.steps * step_bytes(request.table, request.inner.samples, request.dtype)


@lru_cache(maxsize=256)
def step_bytes(table: bytes, samples: int, dtype: np.dtype[Any]) -> int:
    """Bytes of the values and deltas of one inner step of one task: all positions behind the input."""
    rows = np.frombuffer(table, np.int64).reshape(-1, lt.FIELDS)
    return 2 * int(rows[:, lt.OUT_H : lt.OUT_C + 1].prod(axis=1).sum()) * samples * dtype.itemsize
