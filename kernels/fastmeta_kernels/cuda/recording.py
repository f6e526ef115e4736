"""A sequence of launches over one arena of device memory, recorded before it runs.

Nothing in it depends on data, so that it runs again and again on new contents of the same arena, or as a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from fastmeta_kernels.cuda.sources import struct_dtype

ALIGNMENT = 256
REGIONS = ("inputs", "results", "kept", "scratch")


class Array(NamedTuple):
    """One array for each task: the address of the first task's, and how many values lie between two tasks'."""

    address: int
    stride: int = 0

    def at(self, offset: int, itemsize: int) -> Array:
        """The part of each task's array that begins `offset` values later."""
        return Array(self.address + offset * itemsize, self.stride) if self.address else self


NONE = Array(0)


class Slot(NamedTuple):
    """An input or result, at a byte offset of the arena."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Launch(NamedTuple):
    """One kernel call; arguments are 0-d NumPy structs and int32 scalars, passed by value."""

    kernel: str
    blocks: int
    arguments: tuple[Any, ...]
    threads: int = 0  # 0: those of the kernel table
    shared: int = 0  # bytes of dynamic shared memory


class Recording:
    """Launches of kernels of one dtype, and the arena that they use, from address `base`.

    The arena is four regions behind each other: inputs, results, what else is kept, and scratch memory, which belongs
    to one launch, or to one launch and the next, at a time. Recorded once it tells their `sizes`; recorded again with
    these at the address of so much memory it can run.
    """

    def __init__(self, dtype: np.dtype[Any], base: int = ALIGNMENT, sizes: Mapping[str, int] | None = None) -> None:
        self.dtype, self.base = dtype, base
        self.launches: list[Launch] = []
        self.slots: dict[str, Slot] = {}
        self.sizes = dict.fromkeys(REGIONS, 0)
        given = sizes or self.sizes
        self.starts = dict(zip(REGIONS, accumulate((given[r] for r in REGIONS), initial=0), strict=False))

    @property
    def size(self) -> int:
        """Bytes of the arena."""
        return sum(self.sizes.values())

    def take(self, values: int, itemsize: int | None = None, region: str = "kept") -> int:
        """The address of new memory."""
        address = self.base + self.starts[region] + self.sizes[region]
        self.sizes[region] += _aligned(values * (itemsize or self.dtype.itemsize))
        return address

    def array(self, tasks: int, values: int) -> Array:
        """A new array of `values` for each task."""
        return Array(self.take(tasks * values), values)

    def input(self, name: str, tasks: int, values: int, dtype: Any = None) -> Array:
        """The input of that name, of the recording's dtype if no other is given; one of a single task is everyone's."""
        return self._named("inputs", name, tasks, values, np.dtype(dtype or self.dtype))

    def result(self, name: str, tasks: int, values: int = 1) -> Array:
        """The result of that name."""
        return self._named("results", name, tasks, values, self.dtype)

    def _named(self, region: str, name: str, tasks: int, values: int, dtype: np.dtype[Any]) -> Array:
        address = self.take(tasks * values, dtype.itemsize, region)
        self.slots[name] = Slot(address - self.base, (tasks, values), dtype)
        return Array(address, values if tasks > 1 else 0)

    def scratch(self, values: int) -> int:
        """The address of scratch memory."""
        self.sizes["scratch"] = max(self.sizes["scratch"], _aligned(values * self.dtype.itemsize))
        return self.base + self.starts["scratch"]

    def launch(self, kernel: str, blocks: int, *arguments: Any, threads: int = 0, shared: int = 0) -> None:
        """Record `kernel`, a name expression without its <T ...> or with what follows T, as in "convolve, 4, 4"."""
        name, _, rest = kernel.partition(",")
        scalar = "float" if self.dtype.itemsize == 4 else "double"
        full = f"{name}<{scalar},{rest}>" if rest else f"{name}<{scalar}>"
        self.launches.append(Launch(full, blocks, arguments, threads, shared))


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def struct(name: str, **members: Any) -> Any:
    """A C++ struct; members that are not given are 0."""
    value = np.zeros((), struct_dtype(name))
    for member, given in members.items():
        value[member] = given
    return value
