"""How many processors this process may use, and threads that leave them to others while they wait."""

from __future__ import annotations

import importlib
import math
import os
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePosixPath


def available() -> int:
    """Processors this process may run on at once: by its affinity, and by its container's share of their time."""
    known = hasattr(os, "sched_getaffinity")
    return min(len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1, _granted())


def quota(root: str = "/sys/fs/cgroup", own: str = "/proc/self/cgroup") -> float:
    """Processors' worth of time that the control groups of this process grant it; infinity where they set no limit."""
    shares = [math.inf]
    for line in _text(own).splitlines():
        _, controllers, path = line.split(":", 2)
        for group in (PurePosixPath(path), *PurePosixPath(path).parents):
            if not controllers:  # version 2
                shares.append(_share(*_text(f"{root}/{group}/cpu.max").split()))
            elif "cpu" in controllers.split(","):
                folder = f"{root}/{controllers}/{group}/cpu.cfs_"
                shares.append(_share(*_text(folder + "quota_us").split(), *_text(folder + "period_us").split()))
    return min(shares)


def let_waiting_threads_sleep() -> None:
    """Load Numba's OpenMP so that its threads sleep while they wait, unless OMP_WAIT_POLICY or GOMP_SPINCOUNT decides.

    On a shared machine a thread that spins takes the processor from the one it waits for: 20 ms instead of 0.2.
    OpenMP reads the variable as it is loaded; other libraries, and programs that are started later, do not see it.
    """
    if {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        return
    os.environ["OMP_WAIT_POLICY"] = "passive"
    try:
        with suppress(ImportError):  # another threading layer then
            importlib.import_module("numba.np.ufunc.omppool")
    finally:
        del os.environ["OMP_WAIT_POLICY"]


@cache
def _granted() -> int:
    share = quota()
    return 1 << 30 if share == math.inf else max(1, math.ceil(share))


def _share(limit: str = "max", period: str = "100000") -> float:
    """The two words of cpu.max, or of version 1 its two files, as a number of processors."""
    if limit.isdecimal() and period.isdecimal() and int(period):
        return int(limit) / int(period)
    return math.inf


def _text(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except OSError:
        return ""
