"""A sequence of launches over one arena of device memory, recorded before it runs.

Nothing in it depends on data, so that it runs again and again on new contents of the same arena, or as a CUDA graph.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastmeta_kernels.cuda.sources import struct_dtype

ALIGNMENT = 256


class Array(NamedTuple):
    """One array for each task: the address of the first task's, and how many values lie between two tasks'."""

    address: int
    stride: int = 0

    def at(self, offset: int, itemsize: int) -> Array:
        """The part of each task's array that begins `offset` values later."""
        return Array(self.address + offset * itemsize, self.stride) if self.address else self


NONE = Array(0)


class Launch(NamedTuple):
    """One kernel call; arguments are 0-d NumPy structs and int32 scalars, passed by value."""

    kernel: str
    blocks: int
    arguments: tuple[Any, ...]
    threads: int = 0  # 0: those of the kernel table
    shared: int = 0  # bytes of dynamic shared memory


class Recording:
    """Launches of kernels of one dtype, and the arena that they use: `size` bytes from address `base`.

    Recorded once at any address it tells its size; recorded again in memory of that size it can run. Scratch memory
    lies behind everything else and belongs to one launch, or to one launch and the next, at a time.
    """

    def __init__(self, dtype: np.dtype[Any], base: int = ALIGNMENT, scratch: int = 0) -> None:
        self.dtype, self.base = dtype, base
        self.launches: list[Launch] = []
        self.used = self.scratch_size = 0
        self._scratch = scratch

    @property
    def size(self) -> int:
        """Bytes of the arena."""
        return self.used + self.scratch_size

    def take(self, values: int, itemsize: int | None = None) -> int:
        """The address of new memory."""
        address = self.base + self.used
        self.used += -(-values * (itemsize or self.dtype.itemsize) // ALIGNMENT) * ALIGNMENT
        return address

    def array(self, tasks: int, values: int) -> Array:
        """A new array of `values` for each task."""
        return Array(self.take(tasks * values), values)

    def scratch(self, values: int) -> int:
        """The address of scratch memory."""
        self.scratch_size = max(self.scratch_size, -(-values * self.dtype.itemsize // ALIGNMENT) * ALIGNMENT)
        return self._scratch

    def launch(self, kernel: str, blocks: int, *arguments: Any, threads: int = 0, shared: int = 0) -> None:
        """Record `kernel`, a name expression without its <T ...> or with what follows T, as in "convolve, 4, 4"."""
        name, _, rest = kernel.partition(",")
        scalar = "float" if self.dtype.itemsize == 4 else "double"
        full = f"{name}<{scalar},{rest}>" if rest else f"{name}<{scalar}>"
        self.launches.append(Launch(full, blocks, arguments, threads, shared))


def struct(name: str, **members: Any) -> Any:
    """A C++ struct; members that are not given are 0."""
    value = np.zeros((), struct_dtype(name))
    for member, given in members.items():
        value[member] = given
    return value
