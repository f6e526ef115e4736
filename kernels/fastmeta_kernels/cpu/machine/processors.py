"""How many processors this process may use."""

from __future__ import annotations

import math
import os
from functools import cache


def available() -> int:
    """Processors this process may run on at once: by its affinity, and by its container's share of their time."""
    return min(allowed(), _granted())


def allowed() -> int:
    """Processors this process may run on at once by its affinity."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def quota(root: str = "/sys/fs/cgroup", own: str = "/proc/self/cgroup") -> float:
    """Processors' worth of time that the control groups of this process grant it; infinity where they set no limit."""
    shares = [math.inf]
    for line in _text(own).splitlines():
        _, controllers, path = line.split(":", 2)
        names = path.strip("/").split("/")
        for group in ("/".join(names[:count]) for count in range(len(names), -1, -1)):
            if not controllers:  # version 2
                shares.append(_share(*_text(f"{root}/{group}/cpu.max").split()))
            elif "cpu" in controllers.split(","):
                folder = f"{root}/{controllers}/{group}/cpu.cfs_"
                shares.append(_share(*_text(folder + "quota_us").split(), *_text(folder + "period_us").split()))
    return min(shares)


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
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""
