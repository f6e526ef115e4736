"""One call: its job and its results. What does not depend on the numbers is prepared once for calls of one kind."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.contract import Array
from fastmeta_kernels.cpu.execution import heads
from fastmeta_kernels.cpu.execution.handlers import handlers
from fastmeta_kernels.cpu.execution.threads import launch
from fastmeta_kernels.cpu.layout import job
from fastmeta_kernels.cpu.layout.layer import CACHE_LINE
from fastmeta_kernels.cpu.layout.winograd import CHOSEN
from fastmeta_kernels.cpu.program.program import program
from fastmeta_kernels.request import Request, stash_bytes

MOST_CHUNKS = 16  # partial sums of a gradient: the same for any number of threads
SMALL = 1 << 14  # bytes; a smaller array is copied to where the job points: that takes less than asking for its address
OUTPUTS = [job.QUERY_LOSSES, job.SUPPORT_LOSSES, job.RESULTS]  # streams behind each other in one array of results
STREAMS = {
    "theta": job.THETA, "v": job.DIRECTION, "rates": job.RATES, "step_parameters": job.STEP_PARAMETERS,
    "pulls": job.PULLS,
    "support.x": job.SUPPORT_X, "support.y": job.SUPPORT_Y, "support.weights": job.SUPPORT_W,
    "query.x": job.QUERY_X, "query.y": job.QUERY_Y, "query.weights": job.QUERY_W,
}  # fmt: skip
SUPPORT = {"query.x": job.SUPPORT_X, "query.y": job.SUPPORT_Y, "query.weights": job.SUPPORT_W}
WINOGRAD = CHOSEN
STASH_BYTES = 1 << 29  # of a thread: "auto" keeps every step's activations up to here
KEPT = 4  # calls of different kinds that each Python thread remembers
_local = threading.local()


def run(request: Request, arrays: dict[str, Array], names: Sequence[str]) -> list[Array]:
    """The results of a request of these names."""
    if request.kind == "prototype_loss":
        return heads.run(request, arrays, names)
    request = request if WINOGRAD == "auto" else request._replace(variant=WINOGRAD)
    inputs = _inputs(request, arrays)
    calls: OrderedDict[Request, _Call] = _local.__dict__.setdefault("calls", OrderedDict())
    call = calls.pop(request, None) or _Call(request, inputs)
    calls[request] = call
    if len(calls) > KEPT:
        calls.popitem(last=False)
    found = call.run(inputs, _head(call.program.head, request, arrays))
    return [found[name] for name in names]


def fits(request: Request) -> bool:
    """Whether memory "auto" keeps the activations of every inner step of a thread's task."""
    return stash_bytes(request) <= STASH_BYTES


class Input(NamedTuple):
    """An array that a job reads at a stream, the same for all tasks or one part for each."""

    stream: int
    values: Array
    by_task: bool


def _inputs(request: Request, arrays: dict[str, Array]) -> list[Input]:
    """The arrays of a request at their streams; a set is the support set where an inner loop is all there is."""
    shared = {"theta": request.thetas == 1, "v": request.directions == 1, "rates": True, "step_parameters": True}
    shared["pulls"] = True
    streams = STREAMS | (SUPPORT if request.kind == "adapt" else {})
    if "rates" not in arrays:
        arrays = arrays | {"rates": np.zeros((1, 1), request.dtype)}
    if "step_parameters" in arrays:  # and a row of zeros
        arrays["step_parameters"] = np.concatenate(
            [arrays["step_parameters"], np.zeros((1, arrays["step_parameters"].shape[1]), request.dtype)]
        )
    if request.query_loss_steps:
        factors = arrays.pop("loss_weights")[:, None]
        weights = arrays.get("query.weights", np.ones((request.tasks, request.query.samples), request.dtype))
        arrays["query.weights"] = factors * weights[:, None]  # (T, S + 1, N)
    return [Input(streams[name], values, not shared.get(name, False)) for name, values in arrays.items()]


class _Call:
    """A job for `tasks` tasks, with room of its own for small inputs and for sums."""

    def __init__(self, request: Request, inputs: list[Input]) -> None:
        self.request, self.tasks, self.dtype = request, request.tasks, request.dtype
        self.one_task = request.of_one_task()
        self.program = of = program(self.one_task)
        kind, (rows, count), tasks, dtype = request.kind, request.rates, request.tasks, request.dtype
        together = kind == "meta_gradient" and not request.each_task
        self.chunks = chunks = min(tasks, MOST_CHUNKS) if together else tasks
        self.jobs = np.zeros((1, job.FIELDS), np.int64)
        one = self.jobs.view(job.JOB)[0, 0]
        self.streams = one["streams"]
        by_task = request.thetas > 1
        sizes = {"tasks": tasks, "chunks": chunks, "workspace_size": of.workspace}
        sizes |= {"code": job.address(of.code), "code_rows": len(of.code)}
        sizes["handlers"] = job.address(handlers(dtype, np.unique(of.code[:, 0]).tolist()))
        sizes |= {"schedule": job.address(of.schedule), "schedule_rows": len(of.schedule)}
        sizes["first_rows"] = 1 if by_task else of.first_rows  # the first clears a sum, the others load theta
        for name, value in (sizes | {"last_rows": of.last_rows}).items():
            one[name] = value
        self.views: list[Array | None] = []  # where inputs are copied to; None where the job points at them
        for stream, values, own in inputs:
            view = np.empty(values.shape, job.lanes(values, dtype)) if values.nbytes <= SMALL else None
            self._point(stream, 0 if view is None else job.address(view), _stride(values, dtype) if own else 0)
            self.views.append(view)
        self._point(job.EDGES, job.address(of.query.edges))

        size = of.query.blocks[-1].start + of.query.blocks[-1].size  # P
        steps = request.steps + 1 if request.step_parameters else 0
        wide = sum(of.query.blocks[i].size for i in request.step_parameters)
        self.sizes = size, rows * count, steps * wide, 2 if request.pulled else 0
        self.shapes = (rows, count), (steps, wide), (self.sizes[-1],)
        line = CACHE_LINE // dtype.itemsize
        row = -(-sum(self.sizes) // line) * line if kind == "meta_gradient" else 0
        self.sums = np.zeros((chunks, row), dtype)
        at, step = job.address(self.sums), row * dtype.itemsize
        sums = job.GRADIENTS, job.RATES_GRADIENTS, job.STEP_GRADIENTS, job.PULLS_GRADIENT
        for stream, count in zip(sums, self.sizes, strict=True):
            self._point(stream, at, by_chunk=step)
            at += count * dtype.itemsize

        self.slopes = np.zeros((tasks, request.steps + request.inner.samples if request.each_weight else 0), dtype)
        self._point(job.SLOPES, job.address(self.slopes), self.slopes.shape[1] * dtype.itemsize)

        width = 0 if kind in ("loss", "meta_gradient") else size
        width = request.query.samples * of.query.o if kind == "predict" else width
        self.outputs = (tasks, len(request.query_loss_steps) or 1), (tasks, request.steps), (tasks, width)
        self.ends = np.cumsum([0, *(prod(shape) for shape in self.outputs)]).tolist()
        self.places = np.array(self.ends[:3]) * dtype.itemsize
        for stream, shape in zip(OUTPUTS, self.outputs, strict=True):
            self._point(stream, 0, shape[1] * dtype.itemsize)

    def run(self, inputs: list[Input], head: tuple[Array, ...]) -> dict[str, Array]:
        """The results for these inputs."""
        dtype, held = self.dtype, [*head]  # what is pointed at lives until the job is done
        for (stream, values, _), view in zip(inputs, self.views, strict=True):
            if view is not None:
                view[...] = values
            else:
                held.append(np.ascontiguousarray(values, job.lanes(values, dtype)))
                self.streams[stream, 0] = job.address(held[-1])
        if head:
            self._point(job.HEAD, job.address(head[0]))
        results = np.empty(self.ends[3], dtype)
        results[: self.ends[1]] = 0  # of a step without a query loss
        self.streams[OUTPUTS, 0] = self.places + job.address(results)
        size, *_ = self.sizes
        self.sums[:, size:] = 0
        self.slopes[...] = 0
        launch(self.one_task, self.program, self.jobs, (self.tasks, self.chunks), dtype)

        losses, support_losses, parameters = (
            results[start:end].reshape(shape)
            for start, end, shape in zip(self.ends, self.ends[1:], self.outputs, strict=False)
        )
        query_losses = losses.sum(axis=1) if self.request.query_loss_steps else losses[:, 0]
        means = np.add.reduce(self.sums, 0)
        means *= dtype.type(1.0 / self.tasks)
        found = {"losses": support_losses if self.request.kind == "adapt" else query_losses}
        found |= {"query_losses": query_losses, "support_losses": support_losses, "gradient": means[:size]}
        found |= dict.fromkeys(("outputs", "gradients", "products", "phi"), parameters)
        start = size
        for name, count, shape in zip(
            ("rates_gradient", "step_parameters_gradient", "pulls_gradient"), self.sizes[1:], self.shapes, strict=True
        ):
            if means.size:
                found[name] = means[start : start + count].reshape(shape)
            start += count
        if self.request.each_task:
            found["task_gradients"] = self.sums[:, :size].copy()
        if self.request.each_weight:
            found["weights_gradient"] = self.slopes[:, self.request.steps :] * dtype.type(1.0 / self.tasks)
        return found

    def _point(self, stream: int, address: int, by_task: int = 0, by_chunk: int = 0) -> None:
        self.streams[stream] = address, by_task, by_chunk


def _stride(values: Array, dtype: Any) -> int:
    """Bytes from one task's part to the next's."""
    return prod(values.shape[1:]) * int(np.dtype(job.lanes(values, dtype)).itemsize)


def _head(template: NDArray[np.void] | None, request: Request, arrays: dict[str, Array]) -> tuple[Array, ...]:
    """The fields of a prototype head, and what they point at."""
    if template is None or request.head is None:
        return ()
    y, n = arrays["query.y"], request.inner.samples
    labels = [np.ascontiguousarray(part, np.int64) for part in (y[:, :n], y[:, n:])]
    one, held = template.copy(), (*labels, np.array([request.head.scale], request.dtype))
    for name, array in zip(("y_support", "y_query", "scale"), held, strict=True):
        one[name] = job.address(array)
    return one, *held
