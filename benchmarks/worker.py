"""One program in a process of its own: `python -m benchmarks.worker PROGRAM VARIANT DTYPE THREADS DEVICE`.

It reads one JSON request a line and answers each with one line:

    (start)                                            -> {"versions": {...}} or {"missing": "package"}
    {"do": "build", "workload": name, "inputs": file}  -> {"first_call": seconds}, building and compiling included
    {"do": "result", "part": part, "file": file}       -> {}, and the vector in `file`
    {"do": "time", "part": part, "seconds": s}         -> {"times": [...]}, on a GPU also "events"
    {"do": "memory"}                                   -> {"peak_rss_mb": ...}, on a GPU also "device_mb"

What a framework prints goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.machine import peak_memory
from benchmarks.workloads import Workload, find


class Worker:
    """What is built, and the answers to requests."""

    def __init__(self, peer: Any, variant: str, dtype: str, device: str) -> None:
        self.peer, self.variant, self.dtype, self.device = peer, variant, dtype, device
        self.workload: Workload | None = None
        self.parts: dict[str, Callable[[], Any]] = {}

    def build(self, workload: str = "", inputs: str = "") -> dict[str, Any]:
        self.workload = find(workload)
        arrays = {}
        if inputs:
            with np.load(inputs) as file:
                arrays = {name: a.astype(self.dtype) if a.dtype.kind == "f" else a for name, a in file.items()}
        start = time.perf_counter()
        self.parts = self.peer.build(self.workload, arrays, self.dtype, self.variant, self.device)
        next(iter(self.parts.values()))()
        return {"first_call": time.perf_counter() - start}

    def result(self, part: str, file: str) -> dict[str, Any]:
        np.save(file, np.asarray(self.peer.vector(self.workload, self.parts[part]()), np.float64))
        return {}

    def time(self, part: str, seconds: float) -> dict[str, Any]:
        """Calls until `seconds` are over; the first warms the caches and counts only where there are no three.

        A call is timed from its start to its complete result; `events` are the GPU's own times of the same calls.
        """
        call = self.parts[part]
        on_gpu = getattr(self.peer, "event_seconds", None) if self.device == "cuda" else None
        times: list[float] = []
        events: list[float] = []
        end = time.perf_counter() + seconds
        while not times or time.perf_counter() < end:
            start = time.perf_counter()
            if on_gpu:
                events.append(on_gpu(call))
            else:
                call()
            times.append(time.perf_counter() - start)
        first = 1 if len(times) > 3 else 0
        return {"times": times[first:], "events": events[first:]}

    def memory(self) -> dict[str, Any]:
        device = getattr(self.peer, "device_mb", None) if self.device == "cuda" else None
        return {"peak_rss_mb": peak_memory(), "device_mb": device() if device else 0.0}


def main() -> None:
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    program, variant, dtype, threads, device = sys.argv[1:]
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    try:
        peer = importlib.import_module(f"benchmarks.peers.{program}_peer")
    except ModuleNotFoundError as error:
        print(json.dumps({"missing": error.name}), file=answers)
        return
    print(json.dumps({"versions": {"python": sys.version.split()[0]} | peer.versions()}), file=answers)
    worker = Worker(peer, variant, dtype, device)
    for line in sys.stdin:
        request = json.loads(line)
        answer = getattr(worker, request.pop("do"))(**request)
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
