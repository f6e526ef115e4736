"""The prototype head alone, over embeddings that no network of the job gives."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.contract import Array
from fastmeta_kernels.cpu.execution.batch import functions
from fastmeta_kernels.cpu.execution.handlers import handlers
from fastmeta_kernels.cpu.execution.threads import Work, launch
from fastmeta_kernels.cpu.layout import job
from fastmeta_kernels.cpu.layout import prototypes as prototype_layout
from fastmeta_kernels.cpu.layout.instruction import HEAD, HEAD_BLOCKS
from fastmeta_kernels.cpu.losses.prototypes import emit
from fastmeta_kernels.cpu.program.schedule import Schedule
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
    fields = plan.head.copy()
    fields["external"] = True
    held = {name: np.ascontiguousarray(array, job.lanes(array, dtype)) for name, array in arrays.items()} | found
    losses = held.pop("losses")
    for name, array in (held | {"scale": plan.scale}).items():
        fields[name] = job.address(array)
    table, (code, schedule) = handlers(dtype, (HEAD, HEAD_BLOCKS)), _instructions()
    jobs = np.zeros((1, job.FIELDS), np.int64)
    one = jobs.view(job.JOB)[0, 0]
    sizes = {"tasks": tasks, "chunks": tasks, "workspace_size": plan.size, "handlers": job.address(table)}
    sizes |= {"code": job.address(code), "code_rows": len(code)}
    for name, value in (sizes | {"schedule": job.address(schedule), "schedule_rows": len(schedule)}).items():
        one[name] = value
    one["streams"][job.HEAD] = job.address(fields), 0, 0
    one["streams"][job.QUERY_LOSSES] = job.address(losses), losses.itemsize, 0
    cost, blocks = 3 * m * head.ways * request.width, int(fields["blocks"])
    of = request.of_one_task(), job.address(jobs), functions(dtype), tasks, tasks
    launch(Work(*of, cost, plan.size, 0, dtype, blocks, "prototypes"))
    return [found[name] for name in names]


@lru_cache(maxsize=1)
def _instructions() -> tuple[NDArray[Any], NDArray[Any]]:
    """The head's code and a schedule of one step."""
    schedule = Schedule(8)
    schedule.segment("head", lambda: emit(schedule.code))
    schedule.run("head")
    return schedule.code.array(), schedule.array()
