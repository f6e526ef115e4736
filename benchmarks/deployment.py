"""What a deployed learner takes: bytes on a Cortex-M4F, time of an adaptation, time of a cold process, by route.

`python -m benchmarks.deployment [--out FILE]`: two networks, written to a temporary folder, compiled and timed here;
what a tool is missing for is left out. Weights do not matter to any of it, so the learners are hardly trained.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastmeta as fm
from benchmarks import machine
from benchmarks.browser import DRIVER, browser
from fastmeta.exports.compiler import library

ROUNDS = 15
ARM = "arm-none-eabi-gcc -std=c99 -Os -mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16"
CLOCK = """
#define _POSIX_C_SOURCE 199309L
#include "NAME.h"
#include <stdio.h>
#include <time.h>
static NAME_state state;
static NAME_work work;
static float x[UPPER_SAMPLES * UPPER_INPUTS], out[UPPER_OUTPUTS];
static TYPE y[UPPER_SAMPLES * UPPER_OUTPUTS];
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + 1e-9 * t.tv_nsec; }
int main(void) {
    double best = 1e9, one = 1e9;
    for (int i = 0; i < UPPER_SAMPLES * UPPER_INPUTS; i++) x[i] = (float)(i * 37 % 101) / 101.0f;
    for (int i = 0; i < UPPER_SAMPLES; i++) y[i] = (TYPE)(i % UPPER_OUTPUTS);
    for (int i = 0; i < 400; i++) {
        double begin = now();
        if (NAME_adapt(&state, &work, x, y, UPPER_SAMPLES, UPPER_STEPS)) return 1;
        double middle = now();
        if (NAME_predict(&state, &work, x, 1, out)) return 2;
        double end = now();
        if (middle - begin < best) best = middle - begin;
        if (end - middle < one) one = end - middle;
    }
    printf("%.6f %.6f", 1e3 * best, 1e3 * one);
    return 0;
}
"""


def learners() -> dict[str, tuple[Any, dict[str, Any]]]:
    """sine: MLP 1-40-40-1, 10 samples, 5 steps. digits: Conv4-16 on 28 x 28, 5 samples of 5 classes, 3 steps."""
    rng = np.random.default_rng(0)
    x, y = rng.random((60, 28, 28, 1)).astype(np.float32), np.repeat(np.arange(20), 3)
    tasks = fm.tasks.from_arrays(x, y, ways=5, shots=1, queries=1)
    sine = fm.MAML(fm.MLP((1, 40, 40, 1)), 0.01, 5, device="numpy").fit(fm.tasks.Sinusoid(), 20)
    digits = fm.MAML(fm.Conv4((28, 28, 1), 16), 0.1, 3, device="numpy").fit(tasks, 1, tasks_per_step=1)
    return {"sine": (sine, {"samples": 10}), "digits": (digits, {"samples": 5, "loss": fm.CrossEntropy()})}


def output(command: list[str], folder: Path, **environment: str) -> str:
    """What a command prints; RuntimeError with its errors where it fails."""
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=os.environ | environment
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
    return done.stdout


def cortex(folder: Path, name: str) -> str:
    """Flash of the pair without its self-test."""
    output([*ARM.split(), f"-D{name.upper()}_NO_TEST", "-c", f"{name}.c", "-o", "arm.o"], folder)
    text, data, _ = output(["arm-none-eabi-size", "arm.o"], folder).splitlines()[1].split()[:3]
    return f"{(int(text) + int(data)) / 1024:.1f} KB"


def native(folder: Path, name: str, classifies: bool) -> str:
    """Milliseconds of an adaptation and of a prediction, the least of 400."""
    words = {"UPPER": name.upper(), "NAME": name, "TYPE": "int32_t" if classifies else "float"}
    (folder / "clock.c").write_text(re.sub("UPPER|NAME|TYPE", lambda found: words[found[0]], CLOCK))
    output(["gcc", "-std=c99", "-O3", "-march=x86-64-v3", "clock.c", f"{name}.c", "-o", "clock", "-lm"], folder)
    found = [output(["./clock"], folder).split() for _ in range(3)]
    adapt, one = (min(float(row[i]) for row in found) for i in (0, 1))
    return f"adapt {adapt:.3g} ms, predict {one:.2g} ms"


def least(call: Callable[[], object], rounds: int = 50) -> float:
    """The least milliseconds of a call."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return 1e3 * min(times)


def onnx(folder: Path, name: str, learner: Any, options: dict[str, Any]) -> str:
    """Size of both graphs, and milliseconds of adapting with one thread."""
    import onnxruntime

    fm.export(learner, folder, to="onnx", name=name, force=True, **options)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level, settings.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(folder / f"{name}_adapt.onnx", settings, providers=["CPUExecutionProvider"])
    x, y = samples(learner, options["samples"])
    size = sum((folder / f"{name}_{role}.onnx").stat().st_size for role in ("adapt", "predict"))
    return f"{size / 1024:.1f} KB, adapt {least(lambda: session.run(None, {'x_support': x, 'y_support': y})):.2g} ms"


def samples(learner: Any, count: int) -> tuple[Any, Any]:
    """Random samples, and labels or targets."""
    rng = np.random.default_rng(0)
    x = rng.random((count, *learner.net.input_shape)).astype(np.float32)
    return x, np.arange(count) if learner.net.outputs > 1 else rng.random((count, 1)).astype(np.float32)


def wasm(folder: Path, name: str, learner: Any, options: dict[str, Any]) -> str:
    """Size of the module and the page; milliseconds in headless Chromium, the least of 20."""
    files = fm.export(learner, folder, to="wasm", name=name, force=True, **options).files
    said = f"{(folder / f'{name}.wasm').stat().st_size / 1024:.1f} KB"
    page = folder / f"{name}.html"
    if page not in files or DRIVER is None:
        return said
    with browser() as window:
        window.go(f"{page.as_uri()}#example")
        while window.script("return document.body.dataset.answers") is None:
            time.sleep(0.1)
        again = "document.getElementById('learn').click(); return document.body.dataset.ms"
        times = [float(window.script(again)) for _ in range(20)]
    return f"{said}, page {page.stat().st_size / 1024:.1f} KB, adapt in Chromium {min(times):.3g} ms"


def cold(programs: dict[str, tuple[list[str], Path]]) -> dict[str, str]:
    """Wall and processor milliseconds of whole processes, run in turn, the least of each."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for _ in range(ROUNDS):
        for name, (command, folder) in programs.items():
            begin, before = time.perf_counter(), processor_time()
            output(command, folder, OPENBLAS_NUM_THREADS="1", PYTHONDONTWRITEBYTECODE="")
            found[name].append((1e3 * (time.perf_counter() - begin), 1e3 * (processor_time() - before)))
    return {
        name: f"{min(wall for wall, _ in times):.0f} ms, {min(used for _, used in times):.0f} of the processor"
        for name, times in found.items()
    }


def processor_time() -> float:
    """Seconds that ended child processes have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(folder: Path) -> list[tuple[str, str, str]]:
    """(network, route, what it takes)."""
    rows: list[tuple[str, str, str]] = []
    programs: dict[str, tuple[list[str], Path]] = {"bare Python": ([sys.executable, "-c", ""], folder)}
    programs["import numpy"] = ([sys.executable, "-c", "import numpy"], folder)
    for name, (learner, options) in learners().items():
        room = folder / name
        report = fm.export(learner, room, name=name, **options)
        size = f", {cortex(room, name)} of flash on a Cortex-M4F" if shutil.which("arm-none-eabi-gcc") else ""
        memory = f"{report.state / 1024:.1f} + {report.work / 1024:.1f} KB of RAM{size}"
        rows += [(name, "C99", memory), (name, "C99, gcc -O3, AVX2", native(room, name, learner.net.outputs > 1))]
        if shutil.which("arm-none-eabi-gcc"):
            fm.export(learner, folder / "int8", name=name, store="int8", force=True, **options)
            rows.append((name, "C99, int8", f"{cortex(folder / 'int8', name)} of flash"))
        library(room, name)
        x, y = samples(learner, options["samples"])
        data = f"{np.round(x, 3).tolist()}, {np.round(y, 3).tolist()}"
        (room / "with_ctypes.py").write_text(f"import {name}\nmodel = {name}.Model()\nmodel.adapt({data})\n")
        programs[f"{name}: ctypes, no NumPy"] = ([sys.executable, "-S", "with_ctypes.py"], room)
        learner.save(room / "learner.safetensors")
        load = f"import fastmeta\nfastmeta.load('learner.safetensors', device='numpy').adapt({data})\n"
        (room / "with_numpy.py").write_text(load)
        programs[f"{name}: fastmeta, NumPy"] = ([sys.executable, "with_numpy.py"], room)
        if shutil.which("clang") and shutil.which("wasm-ld"):
            rows.append((name, "WebAssembly", wasm(room, name, learner, options)))
        rows.append((name, "ONNX, one thread", onnx(room, name, learner, options)))
        rows.append((name, "fastmeta, NumPy", f"adapt {least(lambda: learner.adapt(x, y), 20):.3g} ms"))  # noqa: B023
    return rows + [("cold process", name, took) for name, took in cold(programs).items()]


def main() -> None:
    """Measure and print."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--out", type=Path, help="write the table to this file too")
    arguments = ask.parse_args()
    described = machine.describe("cpu")
    lines = [f"{described['processor']}, {described['usable_cores']} cores, fastmeta at {described['commit']}"]
    lines += [
        f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC; {machine.busy_cores()} cores busy before it began"
    ]
    with tempfile.TemporaryDirectory() as folder:
        rows = table(Path(folder))
    widths = [max(len(row[i]) for row in rows) for i in (0, 1)]
    lines += ["", *(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in rows)]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if arguments.out:
        arguments.out.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
