"""Launches of the prototype head; see prototypes.cuh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastmeta_kernels.contract import PrototypeHead
from fastmeta_kernels.cuda.layout.recording import Batched, Recording, struct


@dataclass(frozen=True)
class Embeddings:
    """N support and M query embeddings of width D in T tasks, their labels, and where the gradients go."""

    support: Batched
    query: Batched
    support_labels: Batched
    query_labels: Batched
    d_support: Batched
    d_query: Batched
    samples: int
    queries: int
    width: int


def record(
    recording: Recording,
    tasks: int,
    data: Embeddings,
    head: PrototypeHead,
    losses: Batched,
    logits: Batched | None = None,
) -> None:
    """Record losses (T,), logits (T, M, K) and both gradients of the embeddings."""
    ways, queries = head.ways, data.queries
    logits = logits or recording.array(tasks, queries * ways)
    dz = recording.array(tasks, queries * ways)
    job = struct(
        "Prototype",
        support=data.support,
        query=data.query,
        dz=dz,
        labels=data.support_labels,
        centres=recording.array(tasks, ways * data.width),
        d_centres=recording.array(tasks, ways * data.width),
        inverse_centres=recording.array(tasks, ways),
        inverse_queries=recording.array(tasks, queries),
        logits=logits,
        d_support=data.d_support,
        d_query=data.d_query,
        samples=data.samples,
        queries=queries,
        ways=ways,
        width=data.width,
        cosine=head.metric == "cosine",
        scale=head.scale,
        tiny=float(np.finfo(recording.dtype).tiny),
    )
    loss = struct("Loss", z=logits, labels=data.query_labels, loss=losses, dz=dz, samples=queries, outputs=ways)
    loss["share"] = 1 / queries
    recording.launch("prototype_centres", tasks * ways, job)
    recording.launch("prototype_logits", tasks * queries, job)
    recording.job("cross_entropy<T>", 1, loss)
    recording.launch("prototype_query_gradient", tasks * queries, job)
    recording.launch("prototype_support_gradient", tasks * ways, job)
