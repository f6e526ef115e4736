"""The contract on the CPU: Numba kernels over a plan, one task a thread, everything in a cache-resident workspace."""

from __future__ import annotations

import numpy as np

from fastmeta_kernels.contract import (
    Array,
    InnerLoop,
    Loss,
    MetaGradient,
    PrototypeHead,
    PrototypeLoss,
    TaskSet,
    loss_of,
)
from fastmeta_kernels.cpu.execution.call import Results, run
from fastmeta_kernels.cpu.execution.threads import compile_for, in_threads, thread_count, usable
from fastmeta_kernels.cpu.layout import job
from fastmeta_kernels.cpu.layout import prototypes as prototype_layout
from fastmeta_kernels.cpu.layout import winograd as winograd_layout
from fastmeta_kernels.cpu.losses.prototypes import run_heads, run_heads_alone
from fastmeta_kernels.cpu.request import ADAPT, GRADIENT, HVP, LOSS, META, PREDICT, Request
from fastmeta_kernels.host import free_bytes, is_own, on_device, on_host
from fastmeta_kernels.layer_table import LINEAR_LOSS, PROTOTYPES, Table

__all__ = [
    "adapt",
    "free_bytes",
    "gradient",
    "hvp",
    "is_own",
    "loss",
    "meta_gradient",
    "on_device",
    "on_host",
    "predict",
    "prototype_gradient",
    "prototype_loss",
    "pullback",
    "thread_count",
]

MOST_STEPS = 1000  # of one program: `adapt` runs it again for more
WINOGRAD = winograd_layout.CHOSEN
_NO_STEPS = InnerLoop(0, np.zeros((1, 1)), (0, 0))


def predict(table: Table, theta: Array, x: Array) -> Array:
    """Outputs (T, N, O)."""
    tasks, samples = x.shape[:2]
    data = TaskSet(x, np.zeros((tasks, samples, 0), theta.dtype))
    return _run(PREDICT, table, theta, data, data).parameters.reshape(tasks, samples, -1)


def loss(table: Table, theta: Array, data: TaskSet) -> Array:
    """Losses (T,)."""
    return _run(LOSS, table, theta, data, data).query_losses


def gradient(table: Table, theta: Array, data: TaskSet) -> tuple[Array, Array]:
    """Losses (T,) and gradients (T, P)."""
    results = _run(GRADIENT, table, theta, data, data)
    return results.query_losses, results.parameters


def pullback(table: Table, theta: Array, x: Array, d_outputs: Array) -> Array:
    """Vector-Jacobian products (T, P)."""
    data = TaskSet(x, d_outputs, loss=Loss(LINEAR_LOSS))
    return _run(GRADIENT, table, theta, data, data).parameters


def prototype_gradient(
    table: Table, theta: Array, data: TaskSet, support: int, head: PrototypeHead
) -> tuple[Array, Array]:
    """Losses (T,) and gradients (T, P) of embeddings, with the fused head; see the contract."""
    data = data._replace(loss=Loss(PROTOTYPES))
    results = _run(GRADIENT, table, theta, data, data, head=(support, head))
    return results.query_losses, results.parameters


def hvp(table: Table, theta: Array, v: Array, data: TaskSet) -> Array:
    """Hessian-vector products (T, P)."""
    return _run(HVP, table, theta, data, data, direction=v).parameters


def adapt(table: Table, theta: Array, support: TaskSet, inner: InnerLoop) -> tuple[Array, Array]:
    """Adapted parameters (T, P) and support losses (T, S)."""
    losses = []
    for first in range(0, max(inner.steps, 1), MOST_STEPS):
        steps = min(inner.steps - first, MOST_STEPS)
        rates = inner.rates[first : first + steps] if len(inner.rates) > 1 else inner.rates
        own = inner.stepwise and inner.stepwise._replace(values=inner.stepwise.values[first : first + steps + 1])
        results = _run(ADAPT, table, theta, support, support, InnerLoop(steps, rates, inner.adapted, own))
        theta = results.parameters
        losses.append(results.support_losses)
    return theta, np.concatenate(losses, axis=1)


def meta_gradient(
    table: Table,
    theta: Array,
    support: TaskSet,
    query: TaskSet,
    inner: InnerLoop,
    order: int = 2,
    memory: str = "auto",
    loss_weights: Array | None = None,
) -> MetaGradient:
    """Gradient of the mean query loss after the inner loop; see the contract."""
    losses: tuple[bool, ...] = ()
    if loss_weights is not None:
        losses = tuple((loss_weights != 0).tolist())
        weights = np.ones(query.x.shape[:2], theta.dtype) if query.weights is None else query.weights
        query = query._replace(weights=loss_weights[:, None] * weights[:, None])  # (T, S + 1, N)
    results = _run(META, table, theta, support, query, inner, order=order, memory=memory, losses=losses)
    gradients = results.gradient, results.rates_gradient, results.stepwise_gradient
    return MetaGradient(results.query_losses, results.support_losses, *gradients)


def prototype_loss(
    support: Array, y_support: Array, query: Array, y_query: Array, head: PrototypeHead
) -> PrototypeLoss:
    """Losses (T,), logits (T, M, K) and both gradients of embeddings (T, N, D) and (T, M, D); see the contract."""
    (tasks, n, d), m, dtype = support.shape, query.shape[1], support.dtype
    plan = prototype_layout.layout(head, n, m, d, dtype)
    losses, logits = np.empty(tasks, dtype), np.empty((tasks, m, head.ways), dtype)
    d_support, d_query = np.empty_like(support), np.empty_like(query)
    threads = usable()
    by_blocks = tasks < threads
    one = plan.head.copy()
    one["tasks"], one["by_blocks"], one["external"] = tasks, by_blocks, True
    held = {"support": support, "query": query, "d_support": d_support, "d_query": d_query}
    held |= {"y_support": y_support, "y_query": y_query, "scale": plan.scale, "losses": losses, "logits": logits}
    for name, array in held.items():
        one[name] = job.address(array)
    heads = np.frombuffer(one.tobytes(), np.int64).reshape(1, -1)
    used = min(threads, int(one["blocks"]) if by_blocks else tasks)
    workspaces = job.workspace(
        (head, n, m, d, dtype, used, by_blocks), 1 if by_blocks else used, plan.size, dtype, "prototypes"
    )
    compile_for(dtype, "phase")
    if used == 1:
        run_heads_alone(workspaces, heads)
    else:
        in_threads(used, run_heads, workspaces, heads)
    return PrototypeLoss(losses, logits, d_support, d_query)


def _run(
    kind: int,
    table: Table,
    theta: Array,
    support: TaskSet,
    query: TaskSet,
    inner: InnerLoop = _NO_STEPS,
    order: int = 2,
    memory: str = "auto",
    direction: Array | None = None,
    head: tuple[int, PrototypeHead] | None = None,
    losses: tuple[bool, ...] = (),
) -> Results:
    request = Request(
        kind, table.tobytes(), theta.itemsize, support.x.shape[1], query.x.shape[1], loss_of(support),
        loss_of(query), support.weights is not None, query.weights is not None, inner.steps, order, memory,
        inner.rates.shape, inner.adapted, () if inner.stepwise is None else inner.stepwise.blocks, losses, head,
        WINOGRAD,
    )  # fmt: skip
    return run(request, theta, support, query, inner, direction, head)
