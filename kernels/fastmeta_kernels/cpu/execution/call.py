"""One call: its job and its results. What does not depend on the numbers is prepared once for calls of one kind.

Longer than 200 lines because every place of a job is filled here and nowhere else.
"""

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
from fastmeta_kernels.cpu.execution.batch import functions
from fastmeta_kernels.cpu.execution.handlers import handlers
from fastmeta_kernels.cpu.execution.threads import Work, launch
from fastmeta_kernels.cpu.layout import job
from fastmeta_kernels.cpu.layout.lanes import LANES, lanes_of, takes_lanes
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
    "support.log_probs": job.SUPPORT_LOGS, "query.log_probs": job.QUERY_LOGS,
}  # fmt: skip
SUPPORT = {"query.x": job.SUPPORT_X, "query.y": job.SUPPORT_Y, "query.weights": job.SUPPORT_W}
SUPPORT |= {"query.log_probs": job.SUPPORT_LOGS}
WINOGRAD = CHOSEN
STASH_BYTES = 1 << 29  # of a thread: "auto" keeps every step's activations up to here
FEW, MOST = 4, 16  # calls of different kinds that each Python thread remembers: all of the few, of more ..
MOST_BYTES = 1 << 22  # .. those whose sums and rooms take this much together
_local = threading.local()


def run(request: Request, arrays: dict[str, Array], names: Sequence[str]) -> list[Array]:
    """The results of a request of these names."""
    if request.kind == "prototype_loss":
        return heads.run(request, arrays, names)
    if request.query_loss_steps or request.step_parameters:
        arrays = _by_step(request, arrays)
    before = _local.__dict__.get("before")
    if before is None or before[0] is not request:  # which takes less than to compare all that it says
        before = _local.before = request, call_of(request, arrays)
    found = before[1].run(arrays)
    return [found[name] for name in names]


def call_of(request: Request, arrays: dict[str, Array]) -> _Call:
    """The call of this kind that this Python thread remembers, or a new one."""
    if WINOGRAD != "auto":
        request = request._replace(variant=WINOGRAD)
    calls: OrderedDict[Request, _Call] = _local.__dict__.setdefault("calls", OrderedDict())
    call = calls.pop(request, None) or _Call(request, arrays)
    calls[request] = call
    while len(calls) > FEW and (len(calls) > MOST or sum(one.bytes for one in calls.values()) > MOST_BYTES):
        calls.popitem(last=False)
    return call


def fits(request: Request) -> bool:
    """Whether memory "auto" keeps the activations of every inner step of a thread's task."""
    size, lanes = stash_bytes(request), lanes_of(request.dtype.itemsize)
    return lanes * size <= STASH_BYTES or (size <= STASH_BYTES and not takes_lanes(request))


def _by_step(request: Request, arrays: dict[str, Array]) -> dict[str, Array]:
    """The arrays with a row of zeros behind the steps' own parameters, and query weights of each step."""
    arrays = dict(arrays)
    if request.step_parameters:
        own = arrays["step_parameters"]
        arrays["step_parameters"] = np.concatenate([own, np.zeros((1, own.shape[1]), request.dtype)])
    if request.query_loss_steps:
        factors = arrays.pop("loss_weights")[:, None]
        weights = arrays.get("query.weights", np.ones((request.tasks, request.query.samples), request.dtype))
        arrays["query.weights"] = factors * weights[:, None]  # (T, S + 1, N)
    return arrays


class Input(NamedTuple):
    """An array that a job reads at a stream, and the room it is copied to; None where the job points at it."""

    name: str
    stream: int
    room: Array | None


class _Call:
    """A job for `tasks` tasks, with room of its own for small inputs and for sums."""

    def __init__(self, request: Request, arrays: dict[str, Array]) -> None:
        in_lanes = takes_lanes(request)
        request = request._replace(variant=LANES) if in_lanes else request
        self.request, self.tasks = request, request.tasks
        self.dtype = request.dtype
        self.share = self.dtype.type(max(request.blocks, 1) / self.tasks)
        self.one_task = request.of_one_task()
        self.program = of = program(self.one_task)
        kind, tasks = request.kind, request.tasks
        dtype = request.dtype
        together = kind == "meta_gradient" and not request.each_task
        blocks = -(-tasks // lanes_of(dtype.itemsize)) if in_lanes else tasks
        self.chunks = chunks = request.blocks or (min(blocks, MOST_CHUNKS) if together else blocks)
        self.jobs = np.zeros((1, job.FIELDS), np.int64)
        one = self.jobs.view(job.JOB)[0, 0]
        self.streams = one["streams"]
        sizes = {"tasks": blocks, "batch": tasks, "chunks": chunks, "workspace_size": of.workspace}
        sizes |= {"code": job.address(of.code), "code_rows": len(of.code)}
        self.handlers = handlers(dtype, np.unique(of.code[:, 0]).tolist(), in_lanes)
        sizes["handlers"] = job.address(self.handlers)
        sizes |= {"schedule": job.address(of.schedule), "schedule_rows": len(of.schedule)}
        sizes["first_rows"] = 1 if request.thetas > 1 else of.first_rows  # it clears a sum, the others load theta
        for name, value in (sizes | {"last_rows": of.last_rows}).items():
            one[name] = value
        self._place_inputs(arrays)
        self._place_sums()
        self._place_results()
        rooms = [*(one.room for one in self.inputs), self.room, self.sums, self.slopes]
        self.bytes = sum(room.nbytes for room in rooms if room is not None)
        sizes_of_one = of.work, of.workspace, of.panel
        self.work = Work(self.one_task, job.address(self.jobs), functions(dtype), blocks, chunks, *sizes_of_one, dtype)
        if in_lanes:
            self.work = self.work._replace(most=1, use="lanes")

    def _place_inputs(self, arrays: dict[str, Array]) -> None:
        """Room for small inputs; a set is the support set where an inner loop is all there is."""
        request, dtype = self.request, self.dtype
        streams = STREAMS | (SUPPORT if request.kind == "adapt" else {})
        shared = {"rates", "step_parameters", "pulls"}
        shared |= {name for name, count in (("theta", request.thetas), ("v", request.directions)) if count == 1}
        self.inputs = []
        for name, values in arrays.items():
            room = np.empty(values.shape, job.lanes(values, dtype)) if values.nbytes <= SMALL else None
            stride = 0 if name in shared else _stride(values, dtype)
            self._point(streams[name], 0 if room is None else job.address(room), stride)
            self.inputs.append(Input(name, streams[name], room))
        if "rates" not in arrays:
            self.no_rates = np.zeros((1, 1), dtype)
            self._point(job.RATES, job.address(self.no_rates))
        self._point(job.EDGES, job.address(self.program.query.edges))

    def _place_sums(self) -> None:
        """Sums of each chunk: gradients of theta, of the rates and of the steps' own parameters."""
        request, blocks = self.request, self.program.query.blocks
        itemsize = self.dtype.itemsize
        steps = request.steps + 1 if request.step_parameters else 0
        wide = sum(blocks[i].size for i in request.step_parameters)
        self.shapes = request.rates, (steps, wide), (2 if request.pulled else 0,)
        self.sizes = blocks[-1].start + blocks[-1].size, *(prod(shape) for shape in self.shapes)  # P, ...
        line = CACHE_LINE // itemsize
        row = -(-sum(self.sizes) // line) * line if request.kind == "meta_gradient" else 0
        self.sums = np.zeros((self.chunks, row), self.dtype)
        begun = self.sizes[0] if request.variant != LANES else 0  # the first task of a chunk stores its sum
        self.zeroed_sums = self.sums[:, begun:]
        at, step = job.address(self.sums), row * itemsize
        sums = job.GRADIENTS, job.RATES_GRADIENTS, job.STEP_GRADIENTS, job.PULLS_GRADIENT
        for stream, count in zip(sums, self.sizes, strict=True):
            self._point(stream, at, by_chunk=step)
            at += count * itemsize
        each = request.steps + request.inner.samples if request.each_weight else 0
        self.slopes = np.zeros((self.tasks, each), self.dtype)
        self._point(job.SLOPES, job.address(self.slopes), each * itemsize)

    def _place_results(self) -> None:
        """Results behind each other: the losses of the query set, those of the support set, and what is asked for."""
        request, tasks = self.request, self.tasks
        of = self.program.query
        width = 0 if request.kind in ("loss", "meta_gradient") else self.sizes[0]
        width = request.query.samples * of.o if request.kind == "predict" else width
        self.outputs = (tasks, len(request.query_loss_steps) or 1), (tasks, request.steps), (tasks, width)
        self.ends = np.cumsum([0, *(prod(shape) for shape in self.outputs)]).tolist()
        self.places = np.array(self.ends[:3]) * self.dtype.itemsize
        small = self.ends[3] * self.dtype.itemsize <= SMALL
        self.room = np.zeros(self.ends[3], self.dtype) if small else None  # they are copied from here
        for stream, shape in zip(OUTPUTS, self.outputs, strict=True):
            self._point(stream, 0, by_task=shape[1] * self.dtype.itemsize)
        if self.room is not None:
            self.streams[OUTPUTS, 0] = self.places + job.address(self.room)

    def run(self, arrays: dict[str, Array]) -> dict[str, Array]:
        """The results for these arrays."""
        held = self._read(arrays)
        results = self.room
        if results is None:
            results = np.empty(self.ends[3], self.dtype)
            self.streams[OUTPUTS, 0] = self.places + job.address(results)
        if self.request.query_loss_steps:
            results[: self.ends[1]] = 0  # of a step without a query loss
        if self.zeroed_sums.size:
            self.zeroed_sums.fill(0)
        if self.slopes.size:
            self.slopes.fill(0)
        launch(self.work)
        del held
        return self._found(results.copy() if results is self.room else results)

    def _read(self, arrays: dict[str, Array]) -> list[Any]:
        """Fill the room of small inputs and point at the others; what is pointed at lives until the job is done."""
        held: list[Any] = []
        for name, stream, room in self.inputs:
            if room is not None:
                room[...] = arrays[name]
            else:
                held.append(np.ascontiguousarray(arrays[name], job.lanes(arrays[name], self.dtype)))
                self.streams[stream, 0] = job.address(held[-1])
        if self.program.head is not None:
            head = _head(self.program.head, self.request, arrays)
            self._point(job.HEAD, job.address(head[0]))
            held.append(head)
        return held

    def _found(self, results: Array) -> dict[str, Array]:
        """Results and means by name."""
        _, first, second, _ = self.ends
        losses = results[:first]
        if self.request.query_loss_steps:
            losses = losses.reshape(self.outputs[0]).sum(axis=1)
        support_losses = results[first:second].reshape(self.outputs[1])
        if self.request.kind == "adapt":
            return {"losses": support_losses, "phi": results[second:].reshape(self.outputs[2])}
        if self.request.kind != "meta_gradient":
            asked = results[second:].reshape(self.outputs[2])
            return {"losses": losses, **dict.fromkeys(("outputs", "gradients", "products"), asked)}
        blocks = self.request.blocks
        means = self.sums.copy() if blocks else np.add.reduce(self.sums, 0)
        means *= self.share
        found = {"query_losses": losses, "support_losses": support_losses, "gradient": means[..., : self.sizes[0]]}
        start = self.sizes[0]
        names = "rates_gradient", "step_parameters_gradient", "pulls_gradient"
        for name, count, shape in zip(names, self.sizes[1:], self.shapes, strict=True):
            if count:
                found[name] = means[..., start : start + count].reshape(means.shape[:-1] + shape)
            start += count
        if self.request.each_task:
            found["task_gradients"] = self.sums[:, : self.sizes[0]].copy()
        if self.request.each_weight:
            found["weights_gradient"] = self.slopes[:, self.request.steps :] * self.dtype.type(1.0 / self.tasks)
        return found

    def _point(self, stream: int, address: int, by_task: int = 0, by_chunk: int = 0) -> None:
        self.streams[stream] = address, by_task, by_chunk


def _stride(values: Array, dtype: Any) -> int:
    """Bytes from one task's part to the next's."""
    return prod(values.shape[1:]) * int(np.dtype(job.lanes(values, dtype)).itemsize)


def _head(template: NDArray[np.void], request: Request, arrays: dict[str, Array]) -> tuple[Array, ...]:
    """The fields of a prototype head, and what they point at."""
    assert request.head is not None
    y, n = arrays["query.y"], request.inner.samples
    labels = [np.ascontiguousarray(part, np.int64) for part in (y[:, :n], y[:, n:])]
    one, held = template.copy(), (*labels, np.array([request.head.scale], request.dtype))
    for name, array in zip(("y_support", "y_query", "scale"), held, strict=True):
        one[name] = job.address(array)
    return one, *held
