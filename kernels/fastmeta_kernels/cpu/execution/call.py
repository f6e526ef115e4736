"""One call: its job and its results. What does not depend on the numbers is prepared once for calls of one kind."""

from __future__ import annotations

import threading
from collections import OrderedDict
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.contract import Array, InnerLoop, PrototypeHead, TaskSet
from fastmeta_kernels.cpu.execution.threads import launch
from fastmeta_kernels.cpu.layout import job
from fastmeta_kernels.cpu.layout.layer import CACHE_LINE
from fastmeta_kernels.cpu.program.program import program
from fastmeta_kernels.cpu.request import ADAPT, LOSS, META, PREDICT, Request

MOST_CHUNKS = 16  # partial sums of a gradient: the same for any number of threads
SMALL = 1 << 14  # bytes; a smaller array is copied to where the job points: that takes less than asking for its address
OUTPUTS = [job.QUERY_LOSSES, job.SUPPORT_LOSSES, job.RESULTS]  # streams behind each other in one array of results
KEPT = 4  # calls of different kinds that each Python thread remembers
_local = threading.local()


class Results(NamedTuple):
    """What a job leaves, as far as its kind has it."""

    query_losses: Array  # (T,)
    support_losses: Array  # (T, S)
    parameters: Array  # (T, P), or outputs (T, N * O)
    gradient: Array  # (P,), and of the rates and of each step's own parameters: means over tasks
    rates_gradient: Array
    stepwise_gradient: Array


class Input(NamedTuple):
    """An array that a job reads at a stream, the same for all tasks or one part for each."""

    stream: int
    values: Array
    by_task: bool


def run(
    request: Request,
    theta: Array,
    support: TaskSet,
    query: TaskSet,
    inner: InnerLoop,
    direction: Array | None,
    head: tuple[int, PrototypeHead] | None,
) -> Results:
    """Carry out a request."""
    inputs = [Input(job.THETA, theta, theta.ndim > 1), Input(job.RATES, inner.rates, False)]
    if direction is not None:
        inputs.append(Input(job.DIRECTION, direction, direction.ndim > 1))
    if request.kind in (ADAPT, META):
        inputs += _data(support, job.SUPPORT_X)
    if request.kind != ADAPT:
        inputs += _data(query, job.QUERY_X)
    if inner.stepwise is not None:
        values = inner.stepwise.values
        own = np.concatenate([values, np.zeros((1, values.shape[1]), values.dtype)])  # and a row of zeros
        inputs.append(Input(job.STEP_VALUES, own, False))
    calls: OrderedDict[Any, _Call] = _local.__dict__.setdefault("calls", OrderedDict())
    key = request, len(query.x), theta.ndim, direction is not None and direction.ndim
    call = calls.pop(key, None) or _Call(request, len(query.x), inputs, theta.dtype)
    calls[key] = call
    if len(calls) > KEPT:
        calls.popitem(last=False)
    return call.run(inputs, _head(call.program.head, head, query.y, theta.dtype))


class _Call:
    """A job for `tasks` tasks, with room of its own for small inputs and for sums."""

    def __init__(self, request: Request, tasks: int, inputs: list[Input], dtype: Any) -> None:
        self.request, self.tasks, self.dtype, self.program = request, tasks, dtype, program(request)
        kind, (rows, count), of = request.kind, request.rates, self.program
        self.jobs = np.zeros((1, job.FIELDS), np.int64)
        one = self.jobs.view(job.JOB)[0, 0]
        self.streams = one["streams"]
        chunks = min(tasks, MOST_CHUNKS) if kind == META else tasks
        by_task = inputs[0].by_task
        sizes = {"tasks": tasks, "chunks": chunks, "workspace_size": of.workspace}
        sizes |= {"code": job.address(of.code), "code_rows": len(of.code)}
        sizes |= {"schedule": job.address(of.schedule), "schedule_rows": len(of.schedule)}
        sizes["first_rows"] = 1 if by_task else of.first_rows  # the first clears a sum, the others load theta
        for name, value in (sizes | {"last_rows": of.last_rows}).items():
            one[name] = value
        self.views: list[Array | None] = []  # where inputs are copied to; None where the job points at them
        for stream, values, own in inputs:
            view = np.empty(values.shape, _lanes(values, dtype)) if values.nbytes <= SMALL else None
            self._point(stream, 0 if view is None else job.address(view), _stride(values, dtype) if own else 0)
            self.views.append(view)
        self._point(job.EDGES, job.address(of.query.edges))

        size = inputs[0].values.shape[-1]
        steps = request.steps + 1 if request.stepwise else 0
        wide = next((i.values.shape[-1] for i in inputs if i.stream == job.STEP_VALUES), 0)
        self.sizes = size, rows * count, steps * wide
        self.shapes = (rows, count), (steps, wide)
        line = CACHE_LINE // dtype.itemsize
        row = -(-sum(self.sizes) // line) * line if kind == META else 0
        self.sums = np.zeros((chunks, row), dtype)
        at, step = job.address(self.sums), row * dtype.itemsize
        for stream, count in zip((job.GRADIENTS, job.RATES_GRADIENTS, job.STEP_GRADIENTS), self.sizes, strict=True):
            self._point(stream, at, by_chunk=step)
            at += count * dtype.itemsize

        width = 0 if kind in (LOSS, META) else size
        width = request.query * of.query.o if kind == PREDICT else width
        self.outputs = (tasks, len(request.losses) or 1), (tasks, request.steps), (tasks, width)
        self.ends = np.cumsum([0, *(prod(shape) for shape in self.outputs)]).tolist()
        self.places = np.array(self.ends[:3]) * dtype.itemsize
        for stream, shape in zip(OUTPUTS, self.outputs, strict=True):
            self._point(stream, 0, shape[1] * dtype.itemsize)

    def run(self, inputs: list[Input], head: tuple[Array, ...]) -> Results:
        """The results for these inputs."""
        dtype, held = self.dtype, [*head]  # what is pointed at lives until the job is done
        for (stream, values, _), view in zip(inputs, self.views, strict=True):
            if view is not None:
                view[...] = values
            else:
                held.append(np.ascontiguousarray(values, _lanes(values, dtype)))
                self.streams[stream, 0] = job.address(held[-1])
        if head:
            self._point(job.HEAD, job.address(head[0]))
        results = np.empty(self.ends[3], dtype)
        results[: self.ends[1]] = 0  # of a step without a query loss
        self.streams[OUTPUTS, 0] = self.places + job.address(results)
        size, *_ = self.sizes
        self.sums[:, size:] = 0
        launch(self.request, self.program, self.jobs, dtype)

        losses, support_losses, parameters = (
            results[start:end].reshape(shape)
            for start, end, shape in zip(self.ends, self.ends[1:], self.outputs, strict=False)
        )
        query_losses = losses.sum(axis=1) if self.request.losses else losses[:, 0]
        means = np.add.reduce(self.sums, 0)
        means *= dtype.type(1.0 / self.tasks)
        parts, start = [], size
        for count, shape in zip(self.sizes[1:], self.shapes, strict=True):
            parts.append(means[start : start + count].reshape(shape) if means.size else np.empty(0, dtype))
            start += count
        return Results(query_losses, support_losses, parameters, means[:size], *parts)

    def _point(self, stream: int, address: int, by_task: int = 0, by_chunk: int = 0) -> None:
        self.streams[stream] = address, by_task, by_chunk


def _lanes(values: Array, dtype: Any) -> Any:
    """What kernels read an array as: labels are int64."""
    return dtype if values.dtype.kind == "f" else np.int64


def _stride(values: Array, dtype: Any) -> int:
    """Bytes from one task's part to the next's."""
    return prod(values.shape[1:]) * int(np.dtype(_lanes(values, dtype)).itemsize)


def _data(data: TaskSet, first: int) -> list[Input]:
    """A set as inputs at three streams."""
    inputs = [Input(first, data.x, True), Input(first + 1, data.y, True)]
    return inputs if data.weights is None else [*inputs, Input(first + 2, data.weights, True)]


def _head(
    template: NDArray[np.void] | None, head: tuple[int, PrototypeHead] | None, y: Array, dtype: Any
) -> tuple[Array, ...]:
    """The fields of a prototype head, and what they point at."""
    if template is None or head is None:
        return ()
    labels = [np.ascontiguousarray(part, np.int64) for part in (y[:, : head[0]], y[:, head[0] :])]
    one, held = template.copy(), (*labels, np.array([head[1].scale], dtype))
    for name, array in zip(("y_support", "y_query", "scale"), held, strict=True):
        one[name] = job.address(array)
    return one, *held
