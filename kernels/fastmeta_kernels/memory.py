"""How much memory this process can still get."""

from __future__ import annotations

import os
import sys

PROC, CGROUP = "/proc", "/sys/fs/cgroup"
UNLIMITED = sys.maxsize
SMALL = 2**26  # bytes that are not looked at


def free_bytes() -> int:
    """The least of what the machine, the container (cgroup 2 or 1) and the limit of the process (ulimit -v) leave."""
    return min(_machine(), _container(), _process())


class OutOfMemory(MemoryError):
    """`needed` bytes are more than are free."""

    def __init__(self, message: str, needed: int) -> None:
        super().__init__(message)
        self.needed = needed


def require(needed: int) -> None:
    """OutOfMemory where `needed` bytes are more than are free: the system would kill the process, without a word."""
    if needed > SMALL and needed > (free := free_bytes()):
        raise OutOfMemory(f"{needed / 2**30:.3g} GiB are needed, {free / 2**30:.3g} are free", needed)


def _read(*place: str | os.PathLike[str]) -> str:
    with open(os.path.join(*place), encoding="utf-8") as file:
        return file.read()


def _machine() -> int:
    try:
        lines = _read(PROC, "meminfo").splitlines()
        kilobytes = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines)}
        return 1024 * (kilobytes["MemAvailable"] + kilobytes.get("SwapFree", 0))
    except (OSError, ValueError, KeyError, IndexError):
        return UNLIMITED


def _container() -> int:
    places = [
        (CGROUP, "memory.max", "memory.current"),
        (os.path.join(CGROUP, "memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ]
    free = UNLIMITED
    for folder, limit, usage in places:
        try:
            most, used = (int(_read(folder, name)) for name in (limit, usage))
            stat = dict(line.split() for line in _read(folder, "memory.stat").splitlines())
        except (OSError, ValueError):  # there is none, or it says "max"
            continue
        free = min(free, most - used + int(stat.get("inactive_file", 0)))  # the system takes back what it only caches
    return max(free, 0)


def _process() -> int:
    try:
        import resource

        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        pages = int(_read(PROC, "self", "statm").split()[0])
    except (ImportError, OSError, ValueError):
        return UNLIMITED
    return UNLIMITED if most == resource.RLIM_INFINITY else max(most - pages * resource.getpagesize(), 0)
