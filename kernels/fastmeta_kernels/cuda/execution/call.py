"""Programs in their arenas: the latest are kept, filled, run and read.

A program in which no blocks wait for each other becomes a CUDA graph in its second run.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from fastmeta_kernels.contract import Array
from fastmeta_kernels.cuda.layout.network import layout
from fastmeta_kernels.cuda.layout.recording import ALIGNMENT, JobLaunch
from fastmeta_kernels.cuda.machine import machine
from fastmeta_kernels.cuda.machine.kernel_table import PRECISIONS
from fastmeta_kernels.cuda.program.program import Program
from fastmeta_kernels.request import Request, stash_bytes

STASH_BYTES = 2 * 1024**3  # "auto" keeps every step's activations up to here
MOST_PROGRAMS = 8
MOST_GROUPS = 65535  # rows of a grid
LIKE_THETA = frozenset(("gradient", "gradients", "products", "phi", "task_gradients"))  # results with theta's last axis
_programs: OrderedDict[tuple[int, Request], Execution] = OrderedDict()
_lock = threading.Lock()


class Execution:
    """A program and its arena on the current device."""

    def __init__(self, request: Request) -> None:
        recording = Program(request).recording
        memory = machine.allocate(recording.size + ALIGNMENT)
        base = -(-memory.data.ptr // ALIGNMENT) * ALIGNMENT
        self._arena = memory[base - memory.data.ptr :]
        self.program = Program(request, base, recording.sizes)
        size = recording.sizes["inputs"]
        self._staging = np.frombuffer(machine.pinned(size), np.uint8, size)
        jobs, start = np.frombuffer(self.program.jobs, np.uint8), self.program.recording.starts["jobs"]
        self._arena[start : start + len(jobs)].set(jobs)
        self._runs = 0
        self._graph: Any = None

    def __call__(self, inputs: dict[str, Any], results: Sequence[str]) -> list[Array]:
        """Fill the named inputs, run, and give copies of the named results; those LIKE_THETA lie where theta lies."""
        slots = self.program.recording.slots
        names = sorted(inputs, key=lambda name: slots[name].offset)
        for there, group in groupby(names, lambda name: machine.is_own(inputs[name])):
            side_by_side = list(group)
            for name in side_by_side:
                view = self._view(self._arena if there else self._staging, name)
                view[...] = inputs[name].reshape(view.shape)
            if not there:
                first, last = slots[side_by_side[0]].offset, slots[side_by_side[-1]].end
                self._arena[first:last].set(self._staging[first:last])
        self.replay()
        staying = LIKE_THETA if machine.is_own(inputs.get("theta")) else frozenset()
        kept = {name: self._view(self._arena, name).copy() for name in results if name in staying}
        first = min((slots[name].offset for name in results if name not in kept), default=0)
        last = max((slots[name].end for name in results if name not in kept), default=0)
        out = self._arena[first:last].get()
        return [kept[name] if name in kept else self._view(out, name, first) for name in results]

    def _view(self, memory: Any, name: str, start: int = 0) -> Any:
        """A slot in memory that begins `start` bytes behind the arena's beginning."""
        slot = self.program.recording.slots[name]
        if 0 in slot.shape:
            return np.empty(slot.shape, slot.dtype)
        return memory[slot.offset - start : slot.end - start].view(slot.dtype).reshape(slot.shape)

    def replay(self) -> None:
        """Compute once more on what the arena holds, in the current stream; returns before it is done."""
        self._runs += 1
        jobs = any(isinstance(launch, JobLaunch) for launch in self.program.recording.launches)
        if self._runs == 1 or (jobs and machine.cooperates()):
            self._launch()
            return
        if self._graph is None:
            stream = machine.cupy().cuda.Stream(non_blocking=True)
            with stream:
                stream.begin_capture()
                self._launch()
                self._graph = stream.end_capture()
        self._graph.launch()

    def _launch(self) -> None:
        for launch in self.program.recording.launches:
            if isinstance(launch, JobLaunch):
                self._launch_jobs(launch)
                continue
            function, threads = machine.function(launch.kernel)
            if launch.shared > machine.DEFAULT_SHARED:
                function.max_dynamic_shared_size_bytes = launch.shared
            block = (launch.threads or threads,)
            function((launch.blocks,), block, launch.arguments, shared_mem=launch.shared)

    def _launch_jobs(self, launch: JobLaunch) -> None:
        """All jobs at once by groups of blocks that wait for themselves, or each job in a launch of its own."""
        request = self.program.request
        scalar = "float" if request.dtype.itemsize == 4 else "double"
        name = f"run_jobs<{scalar}, {PRECISIONS[request.variant]}>"
        function, threads = machine.function(name)
        if machine.cooperates():
            most = machine.resident_blocks(name)
            group = max(1, min(most // request.tasks, launch.most_blocks))
            jobs = launch.part(0, len(launch.jobs), request.tasks)
            function((group, min(request.tasks, most // group)), (threads,), (jobs,))
            return
        for i, job in enumerate(launch.jobs):
            grid = job.blocks, min(request.tasks, MOST_GROUPS)
            function(grid, (threads,), (launch.part(i, 1, request.tasks),))


def run(request: Request, inputs: dict[str, Any], results: Sequence[str]) -> list[Array]:
    """Results of a request, on the host or, those LIKE_THETA, where theta lies.

    Raises MemoryError, naming a meta-batch that fits, where the device is too small.
    """
    request = request._replace(variant=machine.precision() if request.dtype.itemsize == 4 else "fp32")
    inputs = _complete(request, inputs)
    key = machine.cupy().cuda.runtime.getDevice(), request
    with _lock:
        execution = _programs.pop(key, None) or _fitting(request)
        _programs[key] = execution
        while len(_programs) > MOST_PROGRAMS:
            _programs.popitem(last=False)
        return execution(inputs, results)


def fits(request: Request) -> bool:
    """Whether memory "auto" keeps the activations of every inner step of all tasks."""
    return request.tasks * stash_bytes(request) <= STASH_BYTES


def _complete(request: Request, arrays: dict[str, Any]) -> dict[str, Any]:
    """The arrays of a request, and what an inner loop asks of its network."""
    if "rates" not in arrays:
        return arrays
    edges = np.array(layout(request.table).edges, np.int64)
    arrays = arrays | {"edges": edges}
    if not request.step_parameters:
        return arrays
    blocks = np.array(request.step_parameters)
    sizes, own_at = np.diff(edges)[blocks], np.full(len(edges) - 1, -1)
    own_at[blocks] = np.cumsum(sizes) - sizes
    return arrays | {"own_at": own_at}


def latest() -> Execution:
    """What the last call ran."""
    return next(reversed(_programs.values()))


def clear() -> None:
    """Forget all programs and give their memory back."""
    with _lock:
        _programs.clear()


def _fitting(request: Request) -> Execution:
    try:
        return Execution(request)
    except MemoryError:
        _programs.clear()
    try:
        return Execution(request)
    except MemoryError as error:
        free = machine.free_bytes()
        needed = Program(request).recording.size
        fits = _most_tasks(request, free)
        advice = f"At most {fits} tasks fit: use a smaller meta-batch" if fits else "Not even one task fits"
        advice += ', or memory="recompute".' if request.kind == "meta_gradient" and request.stash else "."
        raise MemoryError(
            f"{request.tasks} tasks need {needed / 2**30:.2f} GiB on the device, which has {free / 2**30:.2f} GiB "
            f"free. {advice}"
        ) from error


def _most_tasks(request: Request, free: int) -> int:
    low, high = 0, request.tasks  # low fits, high does not
    while high - low > 1:
        tasks = (low + high) // 2
        smaller = request._replace(
            tasks=tasks,
            thetas=tasks if request.thetas > 1 else 1,
            directions=tasks if request.directions > 1 else 1,
        )
        if Program(smaller).recording.size + ALIGNMENT <= free:
            low = tasks
        else:
            high = tasks
    return low
