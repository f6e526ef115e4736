"""The workspace of one thread: where a job keeps zeros, parameters, gradients and sets; allocated once and reused."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.cpu.plan import CACHE_LINE, CP, OCP, Plan, W

# What a job wants of each task.
PREDICT, LOSS, GRADIENT, HVP, ADAPT, META = range(6)
# Fields of a layout: offsets into the workspace, and strides of what exists once an inner step (0: once for all).
PHI, PHI_STEP, G, G_STEP, SETS, SET_STEP, TANGENT, QUERY, V, U = range(10)
STASH_LIMIT = 1 << 29  # bytes a thread may spend on stashed sets before "auto" recomputes

_local = threading.local()


def layout(job: int, support: Plan, query: Plan, steps: int, order: int, memory: str, itemsize: int) -> tuple[Any, int]:
    """Layout and size in scalars. `memory` "auto" stashes every step's set where they fit into STASH_LIMIT."""
    fields = np.zeros(10, np.int64)
    exact = job == META and order == 2 and steps > 0
    stash = memory == "stash" or (memory == "auto" and steps * support.set_size * itemsize <= STASH_LIMIT)
    packed = query.packed
    size = int(max(max(r[OCP], r[W] * r[CP]) for p in (support, query) for r in p.rows))

    def allocate(field: int, count: int) -> None:
        nonlocal size
        line = CACHE_LINE // itemsize
        fields[field] = -(-size // line) * line
        size = int(fields[field]) + count

    allocate(PHI, packed * (steps + 1 if exact else 1))
    fields[PHI_STEP] = packed if exact else 0
    keep_g = job == META and (order == 1 or stash)
    allocate(G, packed * (max(steps, 1) if keep_g else 1))
    fields[G_STEP] = packed if keep_g else 0
    keep_sets = exact and stash
    allocate(SETS, support.set_size * (0 if steps == 0 else steps if keep_sets else 1))
    fields[SET_STEP] = support.set_size if keep_sets else 0
    allocate(QUERY, query.set_size if job != ADAPT else 0)
    tangent = support.set_size if exact else query.set_size if job == HVP else 0
    allocate(TANGENT, tangent)
    allocate(V, packed)
    allocate(U, packed if exact or job == HVP else 0)
    return fields, size


def workspace(key: Any, threads: int, size: int, dtype: Any) -> NDArray[Any]:
    """(threads, size) zeros aligned to cache lines; the last one of this Python thread is reused for the same key.

    Borders and padding stay zero from use to use, so a workspace serves one key only.
    """
    if getattr(_local, "key", None) != key:
        _local.key, _local.array = None, None  # let go before asking for more
        line = CACHE_LINE // np.dtype(dtype).itemsize
        row = -(-size // line) * line
        raw = np.zeros(threads * row + line, dtype)
        start = (-raw.ctypes.data % CACHE_LINE) // raw.itemsize
        _local.array = raw[start : start + threads * row].reshape(threads, row)
        _local.key = key
    kept: NDArray[Any] = _local.array
    return kept
