"""One row: every program's result compared in float64, then all of them timed in turn, round after round."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import machine
from benchmarks.company import company
from benchmarks.inputs import inputs
from benchmarks.peers import FASTMETA, REFERENCE, VARIANTS
from benchmarks.program import Program, ProgramError
from benchmarks.workloads import Workload

ROUNDS = 5
GATE = 1e-9  # float64, relative; a program beyond it is not timed
SLOWER = 1.5  # a variant this many times slower than its peer's best leaves after the first round
PAUSE = 0.05  # seconds in which the threads of the program before come to rest


@dataclass(frozen=True)
class Settings:
    """What a run is made with."""

    python: Mapping[str, str]  # of each program
    peers: tuple[str, ...] | None  # None: each row's `best`
    threads: int
    seconds: float  # timed, for each program and row
    folder: Path  # inputs, results and caches of this run
    device: str = "cpu"
    busy: bool = False  # timed beside one busy process a core
    variants: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=lambda: VARIANTS)

    def start(self, name: str, variant: str, dtype: str) -> Program:
        """A program in a process of its own."""
        return Program(self.python[name], name, variant, dtype, self.threads, self.device, self.folder)

    def entries(self, workload: Workload) -> list[Entry]:
        """fastmeta and the peers in all variants for this kind of workload, to be filled in."""
        names = (FASTMETA, *(workload.best if self.peers is None else self.peers))
        return [Entry(name, v) for name in names for v in self.variants[name].get(workload.kind, ())]


@dataclass
class Entry:
    """One variant of one program in one row, as it goes into the results. Times are in ms, by part."""

    program: str
    variant: str
    status: str = "timed"  # or why it is not
    versions: dict[str, str] = field(default_factory=dict)
    float64_error: dict[str, float] = field(default_factory=dict)  # relative, against the reference in float64
    float32_error: dict[str, float] = field(default_factory=dict)
    start_s: float = 0.0  # from nothing to imported
    first_call_s: float = 0.0  # building, compiling and the first result
    peak_rss_mb: float = 0.0
    calls: dict[str, int] = field(default_factory=dict)
    median_ms: dict[str, float] = field(default_factory=dict)
    quartiles_ms: dict[str, tuple[float, float]] = field(default_factory=dict)
    rounds_ms: dict[str, list[float]] = field(default_factory=dict)  # median of each round
    event_ms: dict[str, float] = field(default_factory=dict)  # median by the GPU's clock
    device_mb: float = 0.0  # highest use of GPU memory


def row(workload: Workload, settings: Settings) -> dict[str, Any]:
    """All programs on one workload."""
    _write_inputs(workload, settings)
    entries = settings.entries(workload)
    progress(workload, None, "the reference in float64")
    truth = _float64_results(workload, settings, REFERENCE, VARIANTS[REFERENCE][workload.kind][0])
    for entry in entries:
        progress(workload, entry, "float64")
        with recorded(entry):
            _check(workload, settings, entry, truth)
    running: list[tuple[Entry, Program]] = []
    try:
        for entry in entries:
            if entry.status == "timed":
                progress(workload, entry, "float32")
                with recorded(entry):
                    running.append((entry, _ready(workload, settings, entry, truth)))
        progress(workload, None, "timing")
        busy = [machine.busy_cores()]
        with company(settings.busy):
            _rounds(workload, settings, running)
        busy.append(machine.busy_cores())
    finally:
        for _, program in running:
            program.close()
    _inputs_file(workload, settings).unlink()
    return {
        "workload": workload.name,
        "title": workload.title,
        "parts": workload.parts,
        "flops": {part: workload.flops(part) for part in workload.parts},
        "bytes": {part: workload.bytes(part) for part in workload.parts},
        "others_busy_cores": busy,
        "programs": [asdict(entry) for entry in entries],
    }


def compile_time(workload: Workload, settings: Settings) -> float:
    """Seconds of fastmeta's first call with an empty cache of compiled kernels."""
    _write_inputs(workload, settings)
    program = settings.start(FASTMETA, "", "float32")
    try:
        return float(
            program.ask("build", workload=workload.name, inputs=str(_inputs_file(workload, settings)))["first_call"]
        )
    finally:
        program.close()


def peak(program: Program, seconds: float = 0.3) -> dict[str, float]:
    """Best GFLOP/s ("fma", "matmul") and GB/s ("triad") of the machine."""
    rates = {}
    for part in ("fma", "matmul", "triad"):
        file = program.folder / "operations.npy"
        program.ask("result", part=part, file=str(file))
        operations = float(np.load(file)[0])
        rates[part] = operations / min(program.ask("time", part=part, seconds=seconds)["times"]) / 1e9
    return rates


def _float64_results(workload: Workload, settings: Settings, name: str, variant: str) -> dict[str, NDArray[Any]]:
    program = settings.start(name, variant, "float64")
    try:
        program.ask("build", workload=workload.name, inputs=str(_inputs_file(workload, settings)))
        return {part: _result(program, part) for part in workload.compared}
    finally:
        program.close()


def _check(workload: Workload, settings: Settings, entry: Entry, truth: dict[str, NDArray[Any]]) -> None:
    """Compare float64 results with those of the reference."""
    results = truth
    if entry.program != REFERENCE:
        results = _float64_results(workload, settings, entry.program, entry.variant)
    compare(entry, results, truth)


def compare(entry: Entry, results: Mapping[str, NDArray[Any]], truth: Mapping[str, NDArray[Any]]) -> None:
    """ProgramError where float64 results differ from the reference's."""
    entry.float64_error = {part: relative_error(results[part], truth[part]) for part in truth}
    wrong = [f"{part} by {error:.0e}" for part, error in entry.float64_error.items() if not error <= GATE]
    if wrong:
        raise ProgramError(f"differs from the reference in float64: {', '.join(wrong)}")


def _ready(workload: Workload, settings: Settings, entry: Entry, truth: dict[str, NDArray[Any]]) -> Program:
    """A float32 program that has given its first result."""
    program = settings.start(entry.program, entry.variant, "float32")
    try:
        entry.start_s, entry.versions = program.start, program.versions
        file = str(_inputs_file(workload, settings))
        entry.first_call_s = program.ask("build", workload=workload.name, inputs=file)["first_call"]
        entry.float32_error = {part: relative_error(_result(program, part), truth[part]) for part in truth}
    except BaseException:
        program.close()
        raise
    return program


def _rounds(workload: Workload, settings: Settings, running: list[tuple[Entry, Program]]) -> None:
    """Times of all, A B C, then C B A, and so on; slow variants leave early."""
    times: dict[tuple[str, str, str], list[list[float]]] = {}
    events: dict[tuple[str, str, str], list[float]] = {}
    seconds = settings.seconds / ROUNDS / len(workload.parts)
    for turn in range(ROUNDS):
        for entry, program in list(running[:: -1 if turn % 2 else 1]):
            with recorded(entry):
                for part in workload.parts:
                    time.sleep(PAUSE)
                    key = (entry.program, entry.variant, part)
                    answer = program.ask("time", part=part, seconds=seconds)
                    times.setdefault(key, []).append(answer["times"])
                    events.setdefault(key, []).extend(answer["events"])
                    if events[key]:
                        entry.event_ms[part] = 1e3 * statistics.median(events[key])
                memory = program.ask("memory")
                entry.peak_rss_mb, entry.device_mb = memory["peak_rss_mb"], memory["device_mb"]
                summarise(entry, {p: times[entry.program, entry.variant, p] for p in workload.parts})
            if entry.status != "timed":
                running.remove((entry, program))
        if turn == 0:
            slow = slow_variants(workload.parts[0], [entry for entry, _ in running])
            for entry, program in list(running):
                if entry in slow:
                    program.close()
                    running.remove((entry, program))


def slow_variants(part: str, entries: list[Entry]) -> list[Entry]:
    """Those that are SLOWER times slower than their program's best; their status says so."""
    best: dict[str, float] = {}
    for entry in entries:
        best[entry.program] = min(best.get(entry.program, float("inf")), entry.median_ms[part])
    slow = [entry for entry in entries if entry.median_ms[part] > SLOWER * best[entry.program]]
    for entry in slow:
        entry.status = "slower variant, one round"
    return slow


def summarise(entry: Entry, times: Mapping[str, list[list[float]]]) -> None:
    """Medians and quartiles of the seconds of each part, round by round."""
    for part, rounds in times.items():
        every = [1e3 * t for one in rounds for t in one]
        low, high = np.percentile(every, (25, 75)).tolist()
        entry.calls[part], entry.median_ms[part] = len(every), statistics.median(every)
        entry.quartiles_ms[part] = (low, high)
        entry.rounds_ms[part] = [1e3 * statistics.median(one) for one in rounds]


@contextmanager
def recorded(entry: Entry) -> Iterator[None]:
    """A program that is missing, fails or is wrong stays in the table and says so."""
    try:
        yield
    except ProgramError as error:
        entry.status = str(error)


def _inputs_file(workload: Workload, settings: Settings) -> Path:
    return settings.folder / f"{workload.name}.npz"


def _write_inputs(workload: Workload, settings: Settings) -> None:
    arrays: dict[str, Any] = inputs(workload)
    np.savez(_inputs_file(workload, settings), **arrays)


def _result(program: Program, part: str) -> NDArray[Any]:
    file = program.folder / f"result-{os.getpid()}.npy"
    program.ask("result", part=part, file=str(file))
    value: NDArray[Any] = np.load(file)
    file.unlink()
    return value


def relative_error(value: NDArray[Any], truth: NDArray[Any]) -> float:
    """Of the whole vector, in its 2-norm."""
    return float(np.linalg.norm(value - truth) / np.linalg.norm(truth))


def progress(workload: Workload, entry: Entry | None, what: str) -> None:
    """One line for whoever waits."""
    who = f", {entry.program} {entry.variant}".rstrip() if entry else ""
    print(f"{workload.name}: {what}{who}", file=sys.stderr, flush=True)
