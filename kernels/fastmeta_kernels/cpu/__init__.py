"""The contract on the CPU: Numba kernels over a plan, one task a thread, everything in a cache-resident workspace."""

from __future__ import annotations

import os
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.contract import Array, InnerLoop, MetaGradient, TaskSet
from fastmeta_kernels.cpu._jit import compile_linked
from fastmeta_kernels.cpu.batch import CHUNKS, run
from fastmeta_kernels.cpu.layout import ADAPT, GRADIENT, HVP, LOSS, META, PREDICT, layout, workspace
from fastmeta_kernels.cpu.plan import Plan, plan
from fastmeta_kernels.cpu.product import compile_product
from fastmeta_kernels.layer_table import Table, output_count, parameter_count

__all__ = ["adapt", "gradient", "hvp", "loss", "meta_gradient", "predict", "thread_count"]

_NO_STEPS = InnerLoop(0, np.zeros((1, 1)), (0, 0))


def thread_count() -> int:
    """Threads used: FASTMETA_NUM_THREADS, else what Numba was told or found."""
    chosen = os.environ.get("FASTMETA_NUM_THREADS")
    if not chosen:
        return int(numba.get_num_threads())
    if not chosen.isdigit() or int(chosen) < 1:
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
) -> MetaGradient:
    """Gradient of the mean query loss after the inner loop; see the contract."""
    results = _run(META, table, theta, support, query, inner, order=order, memory=memory)
    return MetaGradient(results.query_losses, results.support_losses, results.gradient, results.rates_gradient)


class _Results:
    """What the entry point writes, unpacked."""

    query_losses: Array
    support_losses: Array
    outputs: Array
    parameters: Array
    gradient: Array
    rates_gradient: Array


def _run(
    job: int,
    table: Table,
    theta: Array,
    support: TaskSet,
    query: TaskSet,
    inner: InnerLoop = _NO_STEPS,
    order: int = 2,
    memory: str = "auto",
    direction: Array | None = None,
) -> _Results:
    dtype, tasks, steps = theta.dtype, query.x.shape[0], inner.steps
    key = table.tobytes()
    query_plan = plan(key, query.x.shape[1], dtype.itemsize)
    support_plan = plan(key, support.x.shape[1], dtype.itemsize)
    fields, size = layout(job, support_plan, query_plan, steps, order, memory, dtype.itemsize)
    threads = min(thread_count(), tasks, CHUNKS)
    place = (key, support.x.shape[1], query.x.shape[1], dtype, fields.tobytes(), size, thread_count())
    workspaces = workspace(place, thread_count(), size, dtype)
    edges = query_plan.edges
    per_parameter = inner.rates.shape[1] == parameter_count(table) and inner.rates.shape[1] > 1
    rates = _pack(inner.rates, query_plan) if per_parameter else _plain(inner.rates, dtype)
    adapted = _packed_range(inner.adapted, query_plan)
    chunks = min(tasks, CHUNKS) if job == META else min(tasks, 8 * CHUNKS)
    packed = query_plan.packed
    per_task = job in (GRADIENT, HVP, ADAPT)

    support_losses = np.zeros((tasks, steps), dtype)
    query_losses = np.zeros(tasks, dtype)
    outputs = np.zeros((tasks, query.x.shape[1] * output_count(table) if job == PREDICT else 0), dtype)
    parameters = np.zeros(tasks * packed if per_task else 0, dtype)
    gradients = np.zeros((chunks, packed if job == META else 0), dtype)
    rates_gradients = np.zeros((chunks, *rates.shape) if job == META else (chunks, 1, 0), dtype)

    compile_product(numba.from_dtype(dtype))
    compile_linked(numba.from_dtype(dtype))
    before = numba.get_num_threads()
    numba.set_num_threads(max(threads, 1))
    try:
        run(
            job, workspaces, fields, int(query.y.dtype.kind != "f"),
            support_plan.rows, support_plan.samples, query_plan.rows, query_plan.samples,
            _pack(theta, query_plan).ravel(), _pack(theta if direction is None else direction, query_plan).ravel(),
            *_flat(support, dtype), *_flat(query, dtype), steps, order, rates, edges, adapted,
            support_losses, query_losses, outputs, parameters, gradients, rates_gradients,
        )  # fmt: skip
    finally:
        numba.set_num_threads(before)

    results = _Results()
    results.query_losses, results.support_losses, results.outputs = query_losses, support_losses, outputs
    if per_task:
        results.parameters = parameters.reshape(tasks, packed)[:, query_plan.pack]
    if job == META:
        share = dtype.type(1.0 / tasks)
        results.gradient = (gradients.sum(axis=0) * share)[query_plan.pack]
        sums = rates_gradients.sum(axis=0) * share
        results.rates_gradient = sums[:, query_plan.pack] if per_parameter else sums
    return results


def _pack(values: Array, plan: Plan) -> Array:
    """(1 or A, packed) from (P,) or (A, P); padding is zero."""
    rows = values.reshape(-1, values.shape[-1])
    packed = np.zeros((rows.shape[0], plan.packed), values.dtype)
    packed[:, plan.pack] = rows
    return packed


def _packed_range(adapted: tuple[int, int], plan: Plan) -> NDArray[np.int64]:
    """Range of the packed parameters; both ends are boundaries of parameter arrays."""
    start, stop = adapted
    first = plan.pack[start] if start < plan.pack.size else plan.packed
    last = plan.pack[stop] if stop < plan.pack.size else plan.packed
    return np.array([first, last], np.int64)


def _flat(data: TaskSet, dtype: Any) -> tuple[Array, Array, Array, Array]:
    """x (T, N, F), targets (T, N, O), labels (T, N), weights (T, N); what is not there has a last axis of 0."""
    tasks, samples = data.x.shape[:2]
    floats = data.y.dtype.kind == "f"
    targets = data.y if floats else np.zeros((tasks, samples, 0), dtype)
    labels = np.zeros((tasks, 0), np.int64) if floats else data.y
    weights = np.zeros((tasks, 0), dtype) if data.weights is None else data.weights
    x = data.x.reshape(tasks, samples, -1)
    return _plain(x, dtype), _plain(targets, dtype), _plain(labels, np.dtype(np.int64)), _plain(weights, dtype)


def _plain(array: Array, dtype: Any) -> Array:
    """C-contiguous, writable and of `dtype`: one compiled form serves all."""
    array = np.ascontiguousarray(array, dtype)
    return array if array.flags.writeable else array.copy()
