"""What does not fit into memory: an error with the number that would, before the system kills the process."""

from __future__ import annotations

from math import prod
from typing import Any

from fastmeta_kernels.memory import OutOfMemory, free_bytes

SHARE = 0.5  # of the free memory, for a number that is said to fit


def check(name: str, count: int, each: int) -> None:
    """OutOfMemory where `count` things of `each` bytes are more than the free memory holds."""
    if (needed := count * each) > (free := free_bytes()):
        found = f"{needed / 2**30:.3g} GiB are needed, {free / 2**30:.3g} are free"
        raise OutOfMemory(_message(name, count, needed, found), needed)


class counted:
    """A context: what runs out of memory in it, and needs it in proportion to `count`, says how many would fit."""

    def __init__(self, name: str, count: int) -> None:
        self.name, self.count = name, count

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if not isinstance(error, MemoryError):
            return
        shape, dtype = getattr(error, "shape", ()), getattr(error, "dtype", None)  # of NumPy's own error
        needed = getattr(error, "needed", prod(shape) * dtype.itemsize if dtype else 0)
        found = str(error.__cause__ or error)
        raise OutOfMemory(_message(self.name, self.count, needed, found), needed) from (error.__cause__ or error)


def _message(name: str, count: int, needed: int, found: str) -> str:
    fitting = int(SHARE * count * min(1.0, free_bytes() / max(needed, 1)))
    return f"{name}={count} must be at most {max(fitting, 1)} or so to fit into memory: {found}. Lower it."
