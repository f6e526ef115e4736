"""A job: one int64 array that says what to do with a batch of tasks, where the data are and how workspaces look.

Entry points take this array and a workspace only: nothing to type, unbox or recompile for another layout of inputs.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numba import carray, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from fastmeta_kernels.cpu._jit import kernel
from fastmeta_kernels.cpu.plan import CACHE_LINE, CP, OCP, Plan, W
from fastmeta_kernels.cpu.plan import FIELDS as PLAN_FIELDS

# What a job wants of each task.
PREDICT, LOSS, GRADIENT, HVP, ADAPT, META = range(6)

# Fields. Sizes and choices first; T_* are strides from task to task in scalars, 0 where all tasks share.
(
    KIND, TASKS, CHUNKS, STEPS, ORDER, LOSS_KIND, PACKED, OUTPUTS, FEATURES, SUPPORT_N, QUERY_N, ROWS,
    RATE_ROWS, RATES, START, STOP, EDGES_N, SUPPORT_WEIGHTED, QUERY_WEIGHTED, T_THETA, T_DIRECTION, WORKSPACE_SIZE,
) = range(22)  # fmt: skip
# Offsets into the workspace, and strides of what exists once an inner step (0: once for all).
PHI, PHI_STEP, G, G_STEP, SETS, SET_STEP, TANGENT, QUERY, V, U = range(22, 32)
# Addresses: parameters and data, plans, results (see `batch.run`).
(
    A_THETA, A_DIRECTION, A_XS, A_YS, A_WS, A_XQ, A_YQ, A_WQ, A_RATES, A_EDGES, A_SUPPORT_PLAN, A_QUERY_PLAN,
    A_SUPPORT_LOSSES, A_QUERY_LOSSES, A_RESULTS, A_GRADIENTS, A_RATES_GRADIENTS, A_HEAD,
) = range(32, 50)  # fmt: skip
FIELDS = 50

STASH_LIMIT = 1 << 29  # bytes a thread may spend on stashed sets before "auto" recomputes

_local = threading.local()


@intrinsic
def _address(context: Any, like: Any, address: Any) -> Any:
    """The integer `address` as a pointer to scalars like those of an array."""
    pointer = types.CPointer(like.dtype)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[1], context.get_value_type(signature.return_type))

    return pointer(like, types.int64), emit


@kernel
def array_at(like, address, offset, size):
    """`size` scalars of the dtype of `like`, `offset` scalars behind an address."""
    return carray(_address(like, address + offset * like.itemsize), size)


@kernel
def plan_at(job, address):
    """The plan (L, FIELDS) at an address."""
    return carray(_address(job, address), (job[ROWS], PLAN_FIELDS))


def lay_out(job: NDArray[np.int64], support: Plan, query: Plan, memory: str, itemsize: int) -> int:
    """Fill the workspace fields and return its size in scalars.

    `memory` "auto" stashes every inner step's set where they fit into STASH_LIMIT.
    """
    kind, steps, order = (int(n) for n in job[[KIND, STEPS, ORDER]])
    exact = kind == META and order == 2 and steps > 0
    stash = memory == "stash" or (memory == "auto" and steps * support.set_size * itemsize <= STASH_LIMIT)
    line = CACHE_LINE // itemsize
    size = int(max(max(r[OCP], r[W] * r[CP]) for r in query.rows))  # zeros, read as "no bias"

    def allocate(field: int, count: int) -> None:
        nonlocal size
        job[field] = -(-size // line) * line
        size = int(job[field]) + count

    packed = query.packed
    allocate(PHI, packed * (steps + 1 if exact else 1))
    job[PHI_STEP] = packed if exact else 0
    keep_g = kind == META and (order == 1 or stash)
    allocate(G, packed * (max(steps, 1) if keep_g else 1))
    job[G_STEP] = packed if keep_g else 0
    keep_sets = exact and stash
    allocate(SETS, support.set_size * (0 if steps == 0 else steps if keep_sets else 1))
    job[SET_STEP] = support.set_size if keep_sets else 0
    allocate(QUERY, query.set_size if kind != ADAPT else 0)
    allocate(TANGENT, support.set_size if exact else query.set_size if kind == HVP else 0)
    allocate(V, packed)
    allocate(U, packed if exact or kind == HVP else 0)
    return -(-size // line) * line


def workspace(key: Any, threads: int, size: int, dtype: Any, use: str = "network") -> NDArray[Any]:
    """(threads * size,) zeros aligned to cache lines; the last one of this Python thread is reused for the same key.

    Borders and padding stay zero from time to time, so a workspace serves one key only; one is kept for each `use`.
    """
    kept: tuple[Any, Any] = getattr(_local, use, (None, None))
    if kept[0] != key:
        setattr(_local, use, (None, None))  # let go before asking for more
        del kept
        line = CACHE_LINE // np.dtype(dtype).itemsize
        raw = np.zeros(threads * size + line, dtype)
        start = (-raw.ctypes.data % CACHE_LINE) // raw.itemsize
        kept = key, raw[start : start + threads * size]
        setattr(_local, use, kept)
    array: NDArray[Any] = kept[1]
    return array
