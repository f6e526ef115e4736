"""The contract on the CPU: Numba kernels over a plan, one task a thread, everything in a cache-resident workspace."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.contract import Array, InnerLoop, MetaGradient, PrototypeHead, PrototypeLoss, TaskSet
from fastmeta_kernels.cpu import job, prototype_layout
from fastmeta_kernels.cpu._jit import compile_linked
from fastmeta_kernels.cpu.batch import run, run_alone
from fastmeta_kernels.cpu.job import ADAPT, GRADIENT, HVP, LOSS, META, PREDICT
from fastmeta_kernels.cpu.losses import LINEAR, PROTOTYPES
from fastmeta_kernels.cpu.plan import OUTPUT_DELTAS, OUTPUTS, O, Plan, pack, plan, unpack
from fastmeta_kernels.cpu.product import compile_product
from fastmeta_kernels.cpu.prototypes import run_heads, run_heads_alone
from fastmeta_kernels.layer_table import AFFINE, KIND, Table

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
_PROCESS = os.getpid()
_lock = threading.Lock()
_NOT_YET = 'device="cpu" does not have {} yet. Use device="numpy".'
_NO_STEPS = InnerLoop(0, np.zeros((1, 1)), (0, 0))


def thread_count() -> int:
    """Threads used: FASTMETA_NUM_THREADS, else what Numba was told or found."""
    chosen = os.environ.get("FASTMETA_NUM_THREADS")
    if not chosen:
        return int(numba.get_num_threads())
    if not (chosen.isascii() and chosen.isdigit()) or int(chosen) < 1:
        raise ValueError(f'FASTMETA_NUM_THREADS="{chosen}" must be a whole number of at least 1.')
    return min(int(chosen), int(numba.config.NUMBA_NUM_THREADS))


def predict(table: Table, theta: Array, x: Array) -> Array:
    """Outputs (T, N, O)."""
    tasks, samples = x.shape[:2]
    data = TaskSet(x, np.zeros((tasks, samples, 0), theta.dtype))
    return _run(PREDICT, table, theta, data, data).outputs.reshape(tasks, samples, -1)


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
    results = _run(ADAPT, table, theta, support, support, inner)
    return results.parameters, results.support_losses


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
    if loss_weights is not None:
        raise ValueError(_NOT_YET.format("weighted query losses"))
    results = _run(META, table, theta, support, query, inner, order=order, memory=memory)
    return MetaGradient(results.query_losses, results.support_losses, results.gradient, results.rates_gradient)


def prototype_loss(
    support: Array, y_support: Array, query: Array, y_query: Array, head: PrototypeHead
) -> PrototypeLoss:
    """Losses (T,), logits (T, M, K) and both gradients of embeddings (T, N, D) and (T, M, D); see the contract."""
    (tasks, n, d), m, dtype = support.shape, query.shape[1], support.dtype
    plan = prototype_layout.layout(head, n, m, d, dtype)
    losses, logits = np.empty(tasks, dtype), np.empty((tasks, m, head.ways), dtype)
    d_support, d_query = np.empty_like(support), np.empty_like(query)
    threads = thread_count()
    by_blocks = tasks < threads
    fields = plan.fields.copy()
    fields[[prototype_layout.TASKS, prototype_layout.BY_BLOCKS, prototype_layout.EXTERNAL]] = tasks, by_blocks, 1
    held = support, query, d_support, d_query, y_support, y_query, plan.scale, losses, logits
    fields[prototype_layout.SUPPORT : prototype_layout.LOGITS + 1] = [array.ctypes.data for array in held]
    key = (head, n, m, d, dtype, threads, by_blocks)
    workspaces = job.workspace(key, 1 if by_blocks else threads, plan.size, dtype, "prototypes")
    wanted = int(fields[prototype_layout.BLOCKS]) if by_blocks else tasks
    _launch(workspaces, fields, min(threads, wanted), run_heads, run_heads_alone, ("phase",))
    return PrototypeLoss(losses, logits, d_support, d_query)


class _Results(NamedTuple):
    query_losses: Array
    support_losses: Array
    outputs: Array
    parameters: Array
    gradient: Array
    rates_gradient: Array


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
) -> _Results:
    if inner.stepwise is not None:
        raise ValueError(_NOT_YET.format("parameters of each step"))
    if (table[:, KIND] == AFFINE).any():
        raise ValueError(_NOT_YET.format("affine layers"))
    dtype, tasks, steps, key = theta.dtype, query.x.shape[0], inner.steps, table.tobytes()
    query_plan = plan(key, query.x.shape[1], dtype.itemsize)
    support_plan = plan(key, support.x.shape[1], dtype.itemsize)
    per_parameter = inner.rates.shape[1] == theta.shape[-1] > 1
    rates = pack(inner.rates, query_plan) if per_parameter else _plain(inner.rates, dtype)
    labelled, o, packed = query.y.dtype.kind != "f", int(query_plan.rows[0, O]), query_plan.packed
    chunks = min(tasks, MOST_CHUNKS) if kind == META else tasks

    fields = np.zeros(job.FIELDS, np.int64)
    fields[[job.KIND, job.TASKS, job.CHUNKS, job.STEPS, job.ORDER]] = kind, tasks, chunks, steps, order
    fields[[job.LOSS_KIND, job.PACKED, job.OUTPUTS, job.ROWS]] = labelled, packed, o, len(query_plan.rows)
    if loss_kind is not None:
        fields[job.LOSS_KIND] = loss_kind
    fields[[job.SUPPORT_N, job.QUERY_N, job.EDGES_N]] = (
        support_plan.samples,
        query_plan.samples,
        query_plan.edges.size,
    )
    fields[[job.RATE_ROWS, job.RATES]] = rates.shape
    fields[[job.START, job.STOP]] = _packed_range(inner.adapted, query_plan)
    fields[[job.SUPPORT_WEIGHTED, job.QUERY_WEIGHTED]] = (
        support.weights is not None,
        query.weights is not None,
    )
    size = job.lay_out(fields, support_plan, query_plan, memory, dtype.itemsize)
    head_fields, size = _head(head, fields, query, query_plan, size)
    fields[job.WORKSPACE_SIZE] = size
    threads = thread_count()
    place = (
        key,
        support_plan.samples,
        query_plan.samples,
        dtype,
        fields[job.PHI : job.U + 1].tobytes(),
        threads,
        head,
    )
    workspaces = job.workspace(place, threads, size, dtype)

    thetas = pack(theta.reshape(-1, theta.shape[-1]), query_plan)
    directions = thetas if direction is None else pack(direction.reshape(-1, theta.shape[-1]), query_plan)
    fields[job.T_THETA] = packed if theta.ndim > 1 else 0
    fields[job.T_DIRECTION] = packed if direction is not None and direction.ndim > 1 else 0
    xs, ys, ws = _plain_set(support, dtype)
    xq, yq, wq = (xs, ys, ws) if query is support else _plain_set(query, dtype)
    fields[job.FEATURES] = xq[0, 0].size
    support_losses, query_losses = np.zeros((tasks, steps), dtype), np.zeros(tasks, dtype)
    results = np.zeros(
        (tasks, query_plan.samples * o if kind == PREDICT else 0 if kind in (LOSS, META) else packed), dtype
    )
    gradients = np.zeros((chunks, packed) if kind == META else (1, 0), dtype)
    rates_gradients = np.zeros((chunks, *rates.shape) if kind == META else (1, 0, 0), dtype)
    held = (
        thetas, directions, xs, ys, ws, xq, yq, wq, rates, query_plan.edges, support_plan.rows, query_plan.rows,
        support_losses, query_losses, results, gradients, rates_gradients, head_fields[0],
    )  # fmt: skip
    fields[job.A_THETA :] = [array.ctypes.data for array in held]
    _launch(workspaces, fields, max(1, min(threads, chunks)))

    if kind == META:
        share = dtype.type(1.0 / tasks)
        gradient_mean = unpack(gradients.sum(axis=0, keepdims=True) * share, query_plan)[0]
        rates_mean = rates_gradients.sum(axis=0) * share
        rates_mean = unpack(rates_mean, query_plan) if per_parameter else rates_mean
        return _Results(query_losses, support_losses, results, results, gradient_mean, rates_mean)
    parameters = unpack(results, query_plan) if kind in (GRADIENT, HVP, ADAPT) else results
    return _Results(query_losses, support_losses, results, parameters, gradients, rates_gradients)


def _launch(
    workspaces: Array,
    fields: NDArray[np.int64],
    threads: int,
    together: Any = run,
    alone: Any = run_alone,
    kernels: tuple[str, ...] = (),
) -> None:
    lane = numba.from_dtype(workspaces.dtype)
    compile_product(lane)
    compile_linked(lane, *kernels)
    jobs = fields.reshape(1, -1)
    if threads == 1 or os.getpid() != _PROCESS:  # OpenMP does not survive a fork
        alone(workspaces, jobs)
        return
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        with _one_at_a_time():
            together(workspaces, jobs)
    finally:
        numba.set_num_threads(before)


def _one_at_a_time() -> contextlib.AbstractContextManager[Any]:
    """Numba's workqueue layer, its last resort, aborts when two Python threads meet in it."""
    try:
        safe = numba.threading_layer() != "workqueue"
    except ValueError:  # not chosen before the first parallel call
        safe = False
    return contextlib.nullcontext() if safe else _lock


def _head(
    given: tuple[int, PrototypeHead] | None, fields: NDArray[np.int64], data: TaskSet, plan: Plan, size: int
) -> tuple[tuple[NDArray[np.int64], ...], int]:
    """Fields of a prototype head over the outputs in a workspace of `size`, with what they point at; the new size."""
    if given is None:
        return (np.zeros(0, np.int64),), size
    n, head = given
    outputs, deltas, o = (int(k) for k in plan.rows[0, [OUTPUTS, OUTPUT_DELTAS, O]])
    layout = prototype_layout.layout(head, n, plan.samples - n, o, data.x.dtype, size)
    labels = [np.ascontiguousarray(part, np.int64) for part in (data.y[:, :n], data.y[:, n:])]
    made, at = layout.fields.copy(), int(fields[job.QUERY])
    made[[prototype_layout.SUPPORT, prototype_layout.QUERY]] = at + outputs, at + outputs + n * o
    made[[prototype_layout.D_SUPPORT, prototype_layout.D_QUERY]] = at + deltas, at + deltas + n * o
    held = *labels, layout.scale
    made[prototype_layout.Y_SUPPORT : prototype_layout.SCALE + 1] = [array.ctypes.data for array in held]
    return (made, *held), layout.size


def _packed_range(adapted: tuple[int, int], plan: Plan) -> tuple[int, int]:
    """Range of the packed parameters; both ends are boundaries of parameter arrays."""
    places = {block.start: block.packed_start for block in plan.blocks}
    return places.get(adapted[0], plan.packed), places.get(adapted[1], plan.packed)


def _plain_set(data: TaskSet, dtype: Any) -> tuple[Array, Array, Array]:
    """x (T, N, F), y (T, N, O) or int64 (T, N), weights (T, N) or nothing: contiguous, as the kernels read them."""
    y = _plain(data.y, dtype if data.y.dtype.kind == "f" else np.dtype(np.int64))
    weights = np.zeros((1, 0), dtype) if data.weights is None else _plain(data.weights, dtype)
    return _plain(data.x, dtype), y, weights


def _plain(array: Array, dtype: Any) -> Array:
    return np.ascontiguousarray(array, dtype)
