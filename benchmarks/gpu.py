"""Meta-gradients on an NVIDIA GPU: `python -m benchmarks.gpu [row ...]`, best through `benchmarks/on_gpu.sh`.

For each row: the gradient against the NumPy reference in float64 on its first tasks; the same bits from call to call;
launches of a meta-step; the time on the device, by device events around a graph's replay, without copies; the time of a
whole call from NumPy to NumPy; the share of the measured float32 rate. Against other programs:
`python -m benchmarks.run --device cuda`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.inputs import inputs
from benchmarks.peers import fastmeta_peer
from benchmarks.workloads import WORKLOADS, Workload

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


def check(workload: Workload) -> float:
    """Relative error of the float64 gradient of the first tasks against the NumPy reference."""
    small = replace(workload, tasks=min(workload.tasks, CHECKED_TASKS))
    arrays = {name: a.astype(np.float64) if a.dtype.kind == "f" else a for name, a in inputs(small).items()}
    ours, expected = (
        fastmeta_peer.build(small, arrays, "float64", "", device)["meta_gradient"]() for device in ("cuda", "numpy")
    )
    return float(np.linalg.norm(ours - expected) / np.linalg.norm(expected))


def row(workload: Workload, cp: Any, rates: dict[str, float], seconds: float) -> dict[str, Any]:
    """One line of the table."""
    from fastmeta_kernels.cuda import execution

    result: dict[str, Any] = {"row": workload.name, "float64_error": check(workload)}
    if result["float64_error"] > GATE:
        return result | {"status": "wrong: not timed"}
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
    result["call_ms"] = wall_time(call, seconds)
    flops = workload.flops("meta_gradient")
    result["floor_ms"] = flops / rates["tflops"] / 1e9
    result["of_rate"] = result["floor_ms"] / result["device_ms"]
    execution.clear()
    return result | {"status": "timed"}


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
        line = row(workload, cp, rates, options.seconds)
        results["rows"].append(line)
        print("  ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in line.items()), flush=True)
        if options.out:
            with open(options.out, "w", encoding="utf-8") as file:
                json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
