"""The contract on the CPU: Numba kernels over a plan, one task a thread, everything in a cache-resident workspace."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.contract import Array, InnerLoop, MetaGradient, PrototypeHead, PrototypeLoss, TaskSet
from fastmeta_kernels.cpu import job, prototype_layout, winograd_layout
from fastmeta_kernels.cpu.losses import CROSS_ENTROPY, LINEAR, PROTOTYPES, SQUARED_ERROR
from fastmeta_kernels.cpu.plan import CACHE_LINE, O
from fastmeta_kernels.cpu.program import program
from fastmeta_kernels.cpu.prototypes import run_heads, run_heads_alone
from fastmeta_kernels.cpu.request import ADAPT, GRADIENT, HVP, LOSS, META, PREDICT, Request
from fastmeta_kernels.cpu.threads import compile_for, in_threads, launch, thread_count, usable
from fastmeta_kernels.layer_table import Table

__all__ = [
    "adapt",
    "gradient",
    "hvp",
    "loss",
    "meta_gradient",
    "predict",
    "prototype_gradient",
    "prototype_loss",
    "pullback",
    "thread_count",
]

MOST_CHUNKS = 16  # partial sums of a gradient: the same for any number of threads
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
    data = TaskSet(x, d_outputs)
    return _run(GRADIENT, table, theta, data, data, loss_kind=LINEAR).parameters


def prototype_gradient(
    table: Table, theta: Array, data: TaskSet, support: int, head: PrototypeHead
) -> tuple[Array, Array]:
    """Losses (T,) and gradients (T, P) of embeddings, with the fused head; see the contract."""
    results = _run(GRADIENT, table, theta, data, data, loss_kind=PROTOTYPES, head=(support, head))
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
    fields = plan.fields.copy()
    fields[[prototype_layout.TASKS, prototype_layout.BY_BLOCKS, prototype_layout.EXTERNAL]] = tasks, by_blocks, 1
    held = support, query, d_support, d_query, y_support, y_query, plan.scale, losses, logits
    fields[prototype_layout.SUPPORT : prototype_layout.LOGITS + 1] = [job.address(array) for array in held]
    used = min(threads, int(fields[prototype_layout.BLOCKS]) if by_blocks else tasks)
    workspaces = job.workspace(
        (head, n, m, d, dtype, used, by_blocks), 1 if by_blocks else used, plan.size, dtype, "prototypes"
    )
    compile_for(dtype, "phase")
    if used == 1:
        run_heads_alone(workspaces, fields.reshape(1, -1))
    else:
        in_threads(used, run_heads, workspaces, fields.reshape(1, -1))
    return PrototypeLoss(losses, logits, d_support, d_query)


class _Results(NamedTuple):
    query_losses: Array
    support_losses: Array
    parameters: Array  # (T, P), or outputs (T, N * O)
    gradient: Array
    rates_gradient: Array
    stepwise_gradient: Array


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
    loss_kind: int | None = None,
    head: tuple[int, PrototypeHead] | None = None,
    losses: tuple[bool, ...] = (),
) -> _Results:
    dtype, tasks, size = theta.dtype, query.x.shape[0], theta.shape[-1]
    if loss_kind is None:
        loss_kind = SQUARED_ERROR if query.y.dtype.kind == "f" else CROSS_ENTROPY
    request = Request(
        kind, table.tobytes(), dtype.itemsize, support.x.shape[1], query.x.shape[1], loss_kind,
        support.weights is not None, query.weights is not None, inner.steps, order, memory, inner.rates.shape,
        inner.adapted, () if inner.stepwise is None else inner.stepwise.blocks, losses, head,
        WINOGRAD,
    )  # fmt: skip
    plan = program(request)
    chunks = min(tasks, MOST_CHUNKS) if kind == META else tasks
    sums = chunks if kind == META else 0
    rates = _plain(inner.rates, dtype)
    own = np.zeros((1, 0), dtype)
    if inner.stepwise is not None:
        values = _plain(inner.stepwise.values, dtype)
        own = np.concatenate([values, np.zeros((1, values.shape[1]), dtype)])  # and a row of zeros
    width = query.x.shape[1] * int(plan.query.rows[0, O]) if kind == PREDICT else size
    outputs, places = _outputs(
        dtype,
        (tasks, inner.steps),
        (tasks, len(losses) or 1),
        (sums, size),
        (sums, *rates.shape),
        (sums, len(own) - 1, own.shape[1]),
    )
    support_losses, query_losses, gradients, rates_gradients, own_gradients = outputs
    results = np.empty((0 if kind in (LOSS, META) else tasks, width), dtype)
    theta = _plain(theta, dtype)
    by_task = theta.ndim > 1
    step, itemsize = theta.strides[0] * by_task, dtype.itemsize
    first_rows = 1 if by_task else plan.first_rows  # the first row clears a sum, the others load theta
    fields = [tasks, chunks, plan.workspace, job.address(plan.code), len(plan.code)]
    fields += [job.address(plan.schedule), len(plan.schedule), first_rows, plan.last_rows]
    fields += [job.address(theta), step, 0]
    if direction is None:
        fields += fields[-3:]
    else:
        direction = _plain(direction, dtype)
        fields += [job.address(direction), direction.strides[0] * (direction.ndim > 1), 0]
    held: list[Array] = []  # what is pointed at must live until the launch is over
    for data in (support, query)[query is support :]:
        labels = dtype if data.y.dtype.kind == "f" else np.dtype(np.int64)
        arrays = [_plain(data.x, dtype), _plain(data.y, labels)]
        arrays += [] if data.weights is None else [_plain(data.weights, dtype)]
        for array in arrays:
            fields += [job.address(array), array.strides[0], 0]
        fields += fields[-3:] if data.weights is None else []  # not read
        held += arrays
    fields += fields[-9:] if query is support else []
    head_fields, *others = _head(plan.head, head, query.y, dtype)
    fields += [job.address(rates), 0, 0, job.address(plan.query.edges), 0, 0]
    fields += [places[0], inner.steps * itemsize, 0, places[1], query_losses.strides[0], 0]
    fields += [job.address(results), width * itemsize, 0, places[2], 0, size * itemsize]
    fields += [places[3], 0, rates.nbytes, job.address(own), 0, 0]
    fields += [places[4], 0, (len(own) - 1) * own.strides[0], job.address(head_fields), 0, 0]
    launch(request, plan, np.array([fields], np.int64), dtype)
    del held, others

    if kind == META:
        share = dtype.type(1.0 / tasks)
        gradients, rates_gradients = gradients.sum(axis=0) * share, rates_gradients.sum(axis=0) * share
        own_gradients = own_gradients.sum(axis=0) * share
    losses_of_tasks = query_losses.sum(axis=1) if losses else query_losses[:, 0]
    return _Results(losses_of_tasks, support_losses, results, gradients, rates_gradients, own_gradients)


def _outputs(dtype: Any, *shapes: tuple[int, ...]) -> tuple[list[Array], list[int]]:
    """Zeros of these shapes and where they lie: parts of one array, each a whole number of cache lines."""
    line, starts = CACHE_LINE // dtype.itemsize, [0]
    for shape in shapes:
        starts.append(starts[-1] + -(-math.prod(shape) // line) * line)
    whole = np.zeros(starts[-1], dtype)
    base = job.address(whole)
    arrays = [
        whole[start : start + math.prod(shape)].reshape(shape) for start, shape in zip(starts, shapes, strict=False)
    ]
    return arrays, [base + start * dtype.itemsize for start in starts]


def _head(
    template: NDArray[np.int64] | None, head: tuple[int, PrototypeHead] | None, y: Array, dtype: Any
) -> tuple[Array, ...]:
    """The fields of a prototype head, and what they point at."""
    if template is None or head is None:
        return (np.zeros(1, np.int64),)
    labels = [np.ascontiguousarray(part, np.int64) for part in (y[:, : head[0]], y[:, head[0] :])]
    fields, held = template.copy(), (*labels, np.array([head[1].scale], dtype))
    fields[prototype_layout.Y_SUPPORT : prototype_layout.SCALE + 1] = [job.address(array) for array in held]
    return fields, *held


def _plain(array: Array, dtype: Any) -> Array:
    return np.ascontiguousarray(array, dtype)
