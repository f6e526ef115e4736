"""The prototype head alone, over embeddings that no network of the job gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastmeta_kernels.contract import Array
from fastmeta_kernels.cpu.execution.handlers import handlers
from fastmeta_kernels.cpu.execution.threads import in_threads, usable
from fastmeta_kernels.cpu.layout import job
from fastmeta_kernels.cpu.layout import prototypes as prototype_layout
from fastmeta_kernels.cpu.layout.instruction import HEAD
from fastmeta_kernels.cpu.losses.prototypes import run_heads, run_heads_alone
from fastmeta_kernels.request import Request


def run(request: Request, arrays: dict[str, Array], names: Sequence[str]) -> list[Array]:
    """Losses (T,), logits (T, M, K) and both gradients of embeddings (T, N, D) and (T, M, D)."""
    tasks, n = request.tasks, request.inner.samples
    m, dtype = request.query.samples, request.dtype
    head = request.head
    assert head is not None
    plan = prototype_layout.layout(head, n, m, request.width, dtype)
    found = {"losses": np.empty(tasks, dtype), "logits": np.empty((tasks, m, head.ways), dtype)}
    found |= {"d_support": np.empty_like(arrays["support"]), "d_query": np.empty_like(arrays["query"])}
    one, threads = plan.head.copy(), usable()
    by_blocks = tasks < threads
    one["tasks"] = tasks
    one["by_blocks"] = by_blocks
    one["external"] = True
    held = {name: np.ascontiguousarray(array, job.lanes(array, dtype)) for name, array in arrays.items()} | found
    for name, array in (held | {"scale": plan.scale}).items():
        one[name] = job.address(array)
    heads = np.frombuffer(one.tobytes(), np.int64).reshape(1, -1)
    used = min(threads, int(one["blocks"]) if by_blocks else tasks)
    key = request.of_one_task(), used, by_blocks
    workspaces = job.workspace(key, 1 if by_blocks else used, plan.size, dtype, "prototypes")
    handlers(dtype, [HEAD])
    if used == 1:
        run_heads_alone(workspaces, heads)
    else:
        in_threads(used, run_heads, workspaces, heads)
    return [found[name] for name in names]
