"""Arrays and memory of the host: what a backend that computes there says of them."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any


def is_elsewhere(value: Any) -> bool:
    """Whether `value` is an array on a GPU, CuPy's or another library's."""
    return hasattr(value, "__cuda_array_interface__")


def is_own(value: Any) -> bool:
    """Whether the host can compute on `value` where it lies."""
    return not is_elsewhere(value)


def on_host(values: Any) -> Any:
    """`values` as a NumPy array where they lie on a GPU, else as they are."""
    return values.get() if is_elsewhere(values) and hasattr(values, "get") else values


on_device = on_host  # the host is the device


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
