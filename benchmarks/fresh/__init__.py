"""A row of fresh processes: each program is a short script that imports, loads, adapts and predicts, and ends.

Scripts are run as `python SCRIPT VARIANT FOLDER OUT`. In FOLDER lie a fastmeta checkpoint, `learner.safetensors`, and
for the peers the same parameters, `weights.npz`; the task is `points.npz` for all. Predictions go to OUT (.npy).
"""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import machine
from benchmarks.company import company
from benchmarks.inputs import inputs
from benchmarks.measure import (
    ROUNDS,
    Entry,
    Settings,
    compare,
    progress,
    recorded,
    relative_error,
    slow_variants,
    summarise,
)
from benchmarks.peers import REFERENCE
from benchmarks.program import ProgramError, environment
from benchmarks.workloads import Workload

PART = "process"
SCRIPTS = Path(__file__).resolve().parent
MISSING = "ModuleNotFoundError: No module named "


def row(workload: Workload, settings: Settings) -> dict[str, Any]:
    """Wall times of whole processes, from the start of Python to its end."""
    entries = settings.entries(workload)
    folders = {dtype: _prepare(workload, settings, dtype) for dtype in ("float64", "float32")}
    by_hand = Entry(REFERENCE, "by-hand")
    progress(workload, None, "the reference in float64")
    truth = _run(by_hand, settings, folders["float64"])[1]
    for entry in entries:
        progress(workload, entry, "float64 and float32")
        with recorded(entry):
            compare(entry, {PART: _run(entry, settings, folders["float64"])[1]}, {PART: truth})
            entry.first_call_s, result, entry.peak_rss_mb = _run(entry, settings, folders["float32"])
            entry.float32_error = {PART: relative_error(result, truth)}
    progress(workload, None, "timing")
    busy = [machine.busy_cores()]
    with company(settings.busy):
        _rounds(settings, [entry for entry in entries if entry.status == "timed"], folders["float32"])
    busy.append(machine.busy_cores())
    return {
        "workload": workload.name,
        "title": workload.title,
        "parts": workload.parts,
        "flops": {PART: 0},
        "bytes": {PART: 0},
        "others_busy_cores": busy,
        "programs": [asdict(entry) for entry in entries],
    }


def _rounds(settings: Settings, running: list[Entry], folder: Path) -> None:
    times: dict[tuple[str, str], list[list[float]]] = {}
    for turn in range(ROUNDS):
        for entry in list(running[:: -1 if turn % 2 else 1]):
            one: list[float] = []
            while sum(one) < settings.seconds / ROUNDS:
                one.append(_run(entry, settings, folder)[0])
            times.setdefault((entry.program, entry.variant), []).append(one)
            summarise(entry, {PART: times[entry.program, entry.variant]})
        if turn == 0:
            slow = slow_variants(PART, running)
            running = [entry for entry in running if entry not in slow]


def _run(entry: Entry, settings: Settings, folder: Path) -> tuple[float, NDArray[Any], float]:
    """Seconds, predictions and peak memory (MB) of one process. Raises ProgramError where it fails."""
    script, out = SCRIPTS / f"{entry.program}_script.py", folder / "predictions.npy"
    command = [settings.python[entry.program], str(script), entry.variant, str(folder), str(out)]
    cores = sorted(os.sched_getaffinity(0))[: settings.threads]
    with open(folder / "errors.txt", "w+b") as errors:
        start = time.perf_counter()
        try:
            process = subprocess.Popen(
                command,
                stderr=errors,
                env=environment(settings.threads, "cpu", settings.folder),
                preexec_fn=lambda: os.sched_setaffinity(0, cores),
            )
        except OSError as error:
            raise ProgramError(f"cannot start its Python: {error.strerror}") from None
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        lines = errors.read().decode(errors="replace").strip().splitlines()
    if process.returncode:
        last = lines[-1] if lines else f"exit status {process.returncode}"
        missing = last.startswith(MISSING)
        raise ProgramError(f"not installed ({last.removeprefix(MISSING)})" if missing else f"failed: {last}"[:160])
    return seconds, np.load(out), usage.ru_maxrss / 1024


def _prepare(workload: Workload, settings: Settings, dtype: str) -> Path:
    """The folder of one dtype."""
    import fastmeta as fm
    from benchmarks.networks import MLP

    assert isinstance(workload.network, MLP)
    folder = settings.folder / f"{workload.name}-{dtype}"
    folder.mkdir(exist_ok=True)
    arrays = {name: a.astype(dtype) for name, a in inputs(workload).items()}
    theta, net = arrays.pop("theta"), fm.MLP(workload.network.sizes)
    np.savez(folder / "weights.npz", **{name.replace(".", "_"): block for name, block in net.views(theta).items()})
    np.savez(folder / "points.npz", **{name: a[0] for name, a in arrays.items()})
    learner = fm.MAML(net, inner_lr=workload.inner_lr, inner_steps=workload.steps, device="numpy")
    tasks = fm.tasks.Sinusoid(shots=10, queries=10)
    learner.fit(tasks, iterations=1, tasks_per_step=1, optimizer=fm.SGD(1e-30), theta=theta)  # moves nothing
    learner.save(folder / "learner.safetensors")
    return folder
