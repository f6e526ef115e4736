"""Programs in their arenas: the latest are kept, filled, run and read.

A program runs launch by launch the first time and as a CUDA graph from the second time on.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.cuda import machine
from fastmeta_kernels.cuda.program import Program
from fastmeta_kernels.cuda.recording import ALIGNMENT
from fastmeta_kernels.cuda.request import Request

MOST_PROGRAMS = 8
_programs: OrderedDict[tuple[int, Request], Execution] = OrderedDict()
_lock = threading.Lock()


class Execution:
    """A program and its arena on the current device."""

    def __init__(self, request: Request) -> None:
        size = Program(request).recording
        self._arena = machine.allocate(size.size + ALIGNMENT)
        base = -(-self._arena.data.ptr // ALIGNMENT) * ALIGNMENT
        self._shift = base - self._arena.data.ptr
        self.program = Program(request, base, base + size.used)
        self._runs = 0
        self._graph: Any = None

    def __call__(self, inputs: dict[str, Any], results: tuple[str, ...]) -> list[NDArray[Any]]:
        """Fill the named inputs, run, and give copies of the named results."""
        for name, value in inputs.items():
            slot = self._view(name)
            value = value.reshape(slot.shape)
            if isinstance(value, np.ndarray):
                slot.set(np.ascontiguousarray(value, slot.dtype))
            else:
                slot[...] = value
        self.replay()
        return [self._read(name) for name in results]

    def _read(self, name: str) -> NDArray[Any]:
        slot = self.program.slots[name]
        return np.empty(slot.shape, slot.dtype) if 0 in slot.shape else np.asarray(self._view(name).get())

    def _view(self, name: str) -> Any:
        slot = self.program.slots[name]
        start = self._shift + slot.offset
        size = int(np.prod(slot.shape, dtype=np.int64)) * slot.dtype.itemsize
        return self._arena[start : start + size].view(slot.dtype).reshape(slot.shape)

    def replay(self) -> None:
        """Compute once more on what the arena holds, in the current stream; returns before it is done."""
        self._runs += 1
        if self._runs == 1:
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
            function, threads = machine.function(launch.kernel)
            if launch.shared > machine.DEFAULT_SHARED:
                function.max_dynamic_shared_size_bytes = launch.shared
            block = (launch.threads or threads,)
            function((launch.blocks,), block, launch.arguments, shared_mem=launch.shared)


def run(request: Request, inputs: dict[str, Any], results: tuple[str, ...]) -> list[NDArray[Any]]:
    """Results of a request; raises MemoryError, naming a meta-batch that fits, where the device is too small."""
    key = machine.cupy().cuda.runtime.getDevice(), request
    with _lock:
        execution = _programs.pop(key, None) or _fitting(request)
        _programs[key] = execution
        while len(_programs) > MOST_PROGRAMS:
            _programs.popitem(last=False)
        return execution(inputs, results)


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
