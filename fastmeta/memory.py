"""How much memory there is, asked before something large is made or read."""

from __future__ import annotations

import os
import resource
from pathlib import Path


def free_bytes() -> int:
    """Bytes that this process can still get: of the machine, and below its own limit of address space."""
    pages = os.sysconf("SC_PAGE_SIZE")
    free = os.sysconf("SC_PHYS_PAGES") * pages
    for line in _text("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    limit, used = resource.getrlimit(resource.RLIMIT_AS)[0], _text("/proc/self/statm").split()
    if limit != resource.RLIM_INFINITY and used:
        free = min(free, max(0, limit - int(used[0]) * pages))
    return free


def _text(path: str) -> str:
    try:
        return Path(path).read_text("ascii")
    except OSError:  # not Linux
        return ""
