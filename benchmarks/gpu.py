"""Meta-gradients on an NVIDIA GPU: `python -m benchmarks.gpu [row ...]`, best through `benchmarks/on_gpu.sh`.

For each row: the gradient against the NumPy reference in float64 on its first tasks; the same bits from call to call;
launches of a meta-step; the time on the device, by device events, without copies, with all jobs in one launch and with
each in its own, in a CUDA graph; the time of a whole call from NumPy to NumPy; the share of the measured float32 rate.
Rows of convolutions come once in each FASTMETA_CUDA_PRECISION, with the float32 gradient's error. Then the time of an
iteration of `fit` with everything on the device, and from the host. Against other programs:
`python -m benchmarks.run --device cuda`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

import fastmeta as fm
from benchmarks.inputs import inputs
from benchmarks.peers import fastmeta_peer
from benchmarks.workloads import WORKLOADS, Workload
from fastmeta_kernels.cuda.machine.kernel_table import PRECISIONS

CHECKED_TASKS = 4
GATE = 1e-11  # relative, in float64
FMA = r"""
extern "C" __global__ void fma_rate(float* out, int n) {
  float a[8];
  for (int i = 0; i < 8; i++) a[i] = threadIdx.x + i;
  for (int k = 0; k < n; k++) {
#pragma unroll
    for (int i = 0; i < 8; i++) a[i] = a[i] * 1.0001f + 0.5f;
  }
  float sum = 0;
  for (int i = 0; i < 8; i++) sum += a[i];
  if (sum == 1.5f) out[0] = sum;
}
"""


def rows() -> dict[str, Workload]:
    """The rows of the CPU table that have meta-gradients, and two larger ones."""
    found = {name: w for name, w in WORKLOADS.items() if w.parts[0] == "meta_gradient"}
    sinusoid, omniglot = found["sinusoid-1000x5"], found["omniglot-q5-s5"]
    more = [
        replace(sinusoid, name="sinusoid-100000x5", title="sinusoid, 100,000 tasks x 5 steps", tasks=100_000),
        replace(omniglot, name="omniglot-256-s5", title="Omniglot, 256 tasks x 5 steps, 5 queries", tasks=256),
    ]
    return found | {w.name: w for w in more}


def device_time(cp: Any, call: Callable[[], None], seconds: float) -> float:
    """Median milliseconds of `call` between two events, over about `seconds`."""
    start, end, times = cp.cuda.Event(), cp.cuda.Event(), list[float]()
    limit = time.perf_counter() + seconds
    while len(times) < 5 or (time.perf_counter() < limit and len(times) < 1000):
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(cp.cuda.get_elapsed_time(start, end))
    return statistics.median(times)


def wall_time(call: Callable[[], Any], seconds: float) -> float:
    """Median milliseconds of a call that returns when it is done."""
    times: list[float] = []
    limit = time.perf_counter() + seconds
    while len(times) < 5 or (time.perf_counter() < limit and len(times) < 1000):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def machine_rates(cp: Any) -> dict[str, float]:
    """Measured float32 multiply-adds (TFLOP/s, counted as two) and memory bandwidth (TB/s, read and write)."""
    kernel = cp.RawKernel(FMA, "fma_rate")
    out, blocks, count = cp.zeros(1, cp.float32), 132 * 16, 4096
    milliseconds = device_time(cp, lambda: kernel((blocks,), (256,), (out, np.int32(count))), 0.5)
    source = cp.zeros(1 << 28, cp.float32)
    target = cp.empty_like(source)
    copied = device_time(cp, lambda: cp.copyto(target, source), 0.5)
    flops = 2.0 * 8 * count * blocks * 256
    return {"tflops": flops / milliseconds / 1e9, "tb_per_s": 2 * source.nbytes / copied / 1e9}


def few(workload: Workload) -> Workload:
    """The workload with the tasks that are checked."""
    return replace(workload, tasks=min(workload.tasks, CHECKED_TASKS))


def wide(workload: Workload) -> dict[str, Any]:
    """Its inputs in float64."""
    return {name: a.astype(np.float64) if a.dtype.kind == "f" else a for name, a in inputs(workload).items()}


@cache
def expected(workload: Workload) -> Any:
    """The gradient of the NumPy reference in float64."""
    return fastmeta_peer.build(workload, wide(workload), "float64", "", "numpy")["meta_gradient"]()


def check(workload: Workload, dtype: str = "float64") -> float:
    """Relative error of the gradient of the first tasks."""
    small = few(workload)
    given = wide(small) if dtype == "float64" else inputs(small)
    ours = fastmeta_peer.build(small, given, dtype, "", "cuda")["meta_gradient"]()
    return float(np.linalg.norm(ours - expected(small)) / np.linalg.norm(expected(small)))


@contextmanager
def launched_apart() -> Iterator[None]:
    """Each job in a launch of its own, as where blocks cannot wait for each other."""
    from fastmeta_kernels.cuda.execution import call as execution
    from fastmeta_kernels.cuda.machine import machine

    cooperates = machine.cooperates
    machine.cooperates = lambda: False
    machine.function.cache_clear()
    execution.clear()
    try:
        yield
    finally:
        machine.cooperates = cooperates
        machine.function.cache_clear()
        execution.clear()


def fit_times(iterations: int = 50) -> dict[str, float]:
    """Milliseconds of an iteration of MAML on images like Omniglot's, 32 tasks of 5 inner steps."""
    images = np.random.default_rng(0).integers(0, 256, (1000 * 20, 28, 28, 1)).astype(np.uint8)
    tasks = fm.tasks.from_arrays(images, np.repeat(np.arange(1000), 20), ways=5, shots=1, queries=1)
    times = {}
    for name, stays in (("fit_ms", True), ("fit_from_host_ms", False)):
        learner = fm.MAML(fm.Conv4((28, 28, 1), 64, 5, "stride"), 0.1, 5, device="cuda")
        learner.gpu_parameters = ("theta",) if stays else ()
        learner.fit(tasks, iterations, tasks_per_step=32)
        times[name] = 1e3 * float(np.median(learner.history["seconds"][5:]))
    return times


def row(workload: Workload, cp: Any, rates: dict[str, float], seconds: float, precision: str) -> dict[str, Any]:
    """One line of the table."""
    from fastmeta_kernels.cuda.execution import call as execution

    os.environ["FASTMETA_CUDA_PRECISION"] = precision
    result: dict[str, Any] = {"row": workload.name, "precision": precision}
    if precision == "fp32":
        result["float64_error"] = check(workload)
        if result["float64_error"] > GATE:
            return result | {"status": "wrong: not timed"}
    result["float32_error"] = check(workload, "float32")
    execution.clear()
    arrays = inputs(workload)
    call = fastmeta_peer.build(workload, arrays, "float32", "", "cuda")["meta_gradient"]
    first = call()
    for _ in range(3):
        if not np.array_equal(first, call()):
            return result | {"status": "bits differ from call to call: not timed"}
    program = execution.latest()
    result["launches"] = program.program.launches
    result["device_ms"] = device_time(cp, program.replay, seconds)
    with launched_apart():
        call()
        result["apart_ms"] = device_time(cp, execution.latest().replay, seconds)
    call()
    result["call_ms"] = wall_time(call, seconds)
    flops = workload.flops("meta_gradient")
    result["floor_ms"] = flops / rates["tflops"] / 1e9
    result["of_rate"] = result["floor_ms"] / result["device_ms"]
    execution.clear()
    return result | {"status": "timed"}


def report(results: dict[str, Any], line: dict[str, Any], path: str | None) -> None:
    """Print a line, and write what there is."""
    print("  ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in line.items()), flush=True)
    if path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


def main() -> None:
    """Measure, print a line a row, and write JSON."""
    known = rows()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("rows", nargs="*", help=f"beginnings of: {', '.join(known)} (default: all)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of timing for each number")
    parser.add_argument("--check", action="store_true", help="compare one small row of each path, time nothing")
    parser.add_argument("--out", help="JSON file")
    options = parser.parse_args()
    if options.check:
        errors = {name: check(replace(known[name], tasks=2)) for name in ("sinusoid-25x5", "omniglot-q5-s1")}
        print(errors)
        sys.exit(max(errors.values()) > GATE)
    import cupy as cp

    rates = machine_rates(cp)
    name = cp.cuda.runtime.getDeviceProperties(0)["name"].decode()
    results: dict[str, Any] = {"device": name, "cupy": cp.__version__, **rates, "rows": []}
    print(f"{name}: {rates['tflops']:.1f} TFLOP/s float32, {rates['tb_per_s']:.2f} TB/s, CuPy {cp.__version__}")
    for workload in known.values():
        if options.rows and not any(workload.name.startswith(start) for start in options.rows):
            continue
        convolves = not workload.name.startswith("sinusoid")
        for precision in PRECISIONS if convolves else ("fp32",):
            results["rows"].append(row(workload, cp, rates, options.seconds, precision))
            report(results, results["rows"][-1], options.out)
    os.environ.pop("FASTMETA_CUDA_PRECISION", None)
    if not options.rows:
        results["fit"] = fit_times()
        report(results, results["fit"], options.out)


if __name__ == "__main__":
    main()
