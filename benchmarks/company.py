"""Busy processes beside what is timed, one a usable core: what a shared machine is like."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_COUNTING = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); print(flush=True)\nwhile True: pass"


@contextmanager
def company(wanted: bool) -> Iterator[None]:
    """Within, each usable core has a process that never rests, if it is wanted; they are ended with it."""
    cores = sorted(os.sched_getaffinity(0)) if wanted else []
    counting = [
        subprocess.Popen((sys.executable, "-c", _COUNTING, str(core)), stdout=subprocess.PIPE) for core in cores
    ]
    try:
        for process in counting:
            assert process.stdout is not None
            process.stdout.readline()  # it has begun
        yield
    finally:
        for process in counting:
            process.kill()
            process.communicate()
