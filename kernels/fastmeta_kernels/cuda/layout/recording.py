"""A sequence of launches over one arena of device memory, recorded before it runs.

What computes tasks apart from each other is a job of `run_jobs`, in one launch with the jobs before it; see jobs.cuh.

Nothing in it depends on data, so that it runs again and again on new contents of the same arena, or as a CUDA graph.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from fastmeta_kernels.cuda.machine.sources import jobs, struct_dtype

ALIGNMENT = 256
REGIONS = ("inputs", "results", "kept", "scratch", "jobs")
ARRIVED_STEP = 32  # as in jobs.cuh


class Batched(NamedTuple):
    """One array for each task: the address of the first task's, and how many values lie between two tasks'."""

    address: int
    stride: int = 0

    def at(self, offset: int, itemsize: int) -> Batched:
        """The part of each task's array that begins `offset` values later."""
        return Batched(self.address + offset * itemsize, self.stride) if self.address else self


NONE = Batched(0)


class Slot(NamedTuple):
    """An input or result, at a byte offset of the arena."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


class Launch(NamedTuple):
    """One kernel call; arguments are 0-d NumPy structs, passed by value."""

    kernel: str
    blocks: int
    arguments: tuple[Any, ...]
    threads: int = 0  # 0: those of the kernel table
    shared: int = 0  # bytes of dynamic shared memory


class Job(NamedTuple):
    """One step of a `JobLaunch`: its function in jobs.cuh, its blocks for each task, its struct."""

    function: str
    blocks: int
    members: Any


class JobLaunch:
    """Jobs that follow each other, task by task; `table` is the address of their `struct Job`s."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.table = self.arrived = 0

    @property
    def most_blocks(self) -> int:
        """The blocks for each task of the job that has most."""
        return max(job.blocks for job in self.jobs)

    def part(self, first: int, count: int, tasks: int) -> Any:
        """A `struct Jobs` of some of them."""
        table = self.table + first * struct_dtype("Job").itemsize
        return struct("Jobs", jobs=table, arrived=self.arrived, count=count, tasks=tasks)


class Recording:
    """Launches of kernels of one dtype over T tasks, and the arena that they use, from address `base`.

    The arena is regions behind each other: inputs, results, what else is kept, scratch memory, which belongs to one
    job, or to one job and the next, at a time, and the jobs themselves. Recorded once it tells their `sizes`; recorded
    again with these at the address of so much memory it can run.
    """

    def __init__(
        self, dtype: np.dtype[Any], tasks: int, base: int = ALIGNMENT, sizes: Mapping[str, int] | None = None
    ) -> None:
        self.dtype, self.tasks, self.base = dtype, tasks, base
        self.launches: list[Launch | JobLaunch] = []
        self.slots: dict[str, Slot] = {}
        self.sizes = dict.fromkeys(REGIONS, 0)
        given = sizes or self.sizes
        self.starts = dict(zip(REGIONS, accumulate((given[r] for r in REGIONS), initial=0), strict=False))
        self._scratch_stride = given["scratch"] // tasks // dtype.itemsize

    @property
    def size(self) -> int:
        """Bytes of the arena."""
        return sum(self.sizes.values())

    def take(self, values: int, itemsize: int | None = None, region: str = "kept") -> int:
        """The address of new memory."""
        address = self.base + self.starts[region] + self.sizes[region]
        self.sizes[region] += _aligned(values * (itemsize or self.dtype.itemsize))
        return address

    def array(self, tasks: int, values: int) -> Batched:
        """A new array of `values` for each task."""
        return Batched(self.take(tasks * values), values)

    def input(self, name: str, tasks: int, values: int, dtype: Any = None) -> Batched:
        """The input of that name, of the recording's dtype if no other is given; one of a single task is everyone's."""
        return self._named("inputs", name, tasks, values, np.dtype(dtype or self.dtype))

    def result(self, name: str, tasks: int, values: int = 1) -> Batched:
        """The result of that name."""
        return self._named("results", name, tasks, values, self.dtype)

    def _named(self, region: str, name: str, tasks: int, values: int, dtype: np.dtype[Any]) -> Batched:
        address = self.take(tasks * values, dtype.itemsize, region)
        self.slots[name] = Slot(address - self.base, (tasks, values), dtype)
        return Batched(address, values if tasks > 1 else 0)

    def scratch(self, values: int) -> Batched:
        """Scratch memory of each task."""
        size = self.tasks * _aligned(values * self.dtype.itemsize)
        self.sizes["scratch"] = max(self.sizes["scratch"], size)
        return Batched(self.base + self.starts["scratch"], self._scratch_stride)

    def launch(self, kernel: str, blocks: int, *arguments: Any, threads: int = 0, shared: int = 0) -> None:
        """Record a kernel of the kernel table, a name without its scalar type."""
        scalar = "float" if self.dtype.itemsize == 4 else "double"
        self.launches.append(Launch(f"{kernel}<{scalar}>", blocks, arguments, threads, shared))

    def job(self, function: str, blocks: int, members: Any) -> None:
        """Record a job, such as "convolve<T, P, 4, 4>", with its blocks for each task and its struct."""
        if not self.launches or isinstance(self.launches[-1], Launch):
            self.launches.append(JobLaunch())
        launch = self.launches[-1]
        assert isinstance(launch, JobLaunch)
        launch.jobs.append(Job(function, blocks, members))

    def finish(self) -> bytes:
        """Places for all jobs; the region's contents before the first launch."""
        contents = bytearray()

        def put(data: bytes) -> int:
            contents.extend(bytes(self.sizes["jobs"] - len(contents)))
            contents.extend(data)
            return self.take(len(data), 1, "jobs")

        for launch in self.launches:
            if isinstance(launch, JobLaunch):
                rows = []
                for job in launch.jobs:
                    members = job.members.tobytes()
                    sizes = {"kind": jobs()[job.function], "blocks": job.blocks, "bytes": len(members)}
                    rows.append(struct("Job", members=put(members), **sizes).tobytes())
                launch.table = put(b"".join(rows))
                launch.arrived = put(bytes(4 * ARRIVED_STEP * self.tasks))
        return bytes(contents)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def struct(name: str, **members: Any) -> Any:
    """A C++ struct; members that are not given are 0."""
    value = np.zeros((), struct_dtype(name))
    for member, given in members.items():
        value[member] = given
    return value
