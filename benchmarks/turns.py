"""An older commit beside this one, in short turns: `python -m benchmarks.turns FOLDER [rows ...]`.

FOLDER is a checkout of the other commit. Both engines are alive at once and take turns of a fraction of a second: a
machine whose speed drifts is the same for both. What counts is the median of the ratios of neighbouring turns.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks import machine
from benchmarks.inputs import inputs
from benchmarks.program import ROOT, Program
from benchmarks.workloads import WORKLOADS, Workload

FARTHEST = 1e-4  # float32, relative: beyond it they did not compute the same thing


def built(workload: Workload, programs: Mapping[str, Program], place: Path) -> bool:
    """Build a row in every program; whether their results have the same bits, AssertionError where they differ."""
    file, results = str(place / "inputs.npz"), []
    np.savez(file, **inputs(workload))  # type: ignore[arg-type]
    for name, one in programs.items():
        one.ask("build", workload=workload.name, inputs=file)
        one.ask("result", part=workload.compared[0], file=str(place / f"{name}.npy"))
        results.append(np.load(place / f"{name}.npy"))
    for other in results[1:]:
        assert np.linalg.norm(other - results[0]) <= FARTHEST * np.linalg.norm(results[0]), workload.name
    return all(np.array_equal(other, results[0]) for other in results[1:])


def turns(part: str, programs: Mapping[str, Program], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Median ms of a call of a built row in every turn of every program; who begins a round changes by chance."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    draw = random.Random(0)
    for _ in range(rounds):
        for name in draw.sample(list(programs), len(programs)):
            answer = programs[name].ask("time", part=part, seconds=seconds)
            times[name].append(statistics.median(answer["times"]) * 1e3)
    return times


def ratios(times: list[float], others: list[float]) -> tuple[float, float, float]:
    """Median and quartiles of this one's time by the other's, turn by turn."""
    each = [a / b for a, b in zip(times, others, strict=True)]
    first, middle, last = statistics.quantiles(each, n=4)
    return middle, first, last


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a checkout of the other commit")
    parser.add_argument("rows", nargs="*", help="beginnings of their names (default: all)")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.2, help="of a turn")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    chosen = [w for w in WORKLOADS.values() if not given.rows or w.name.startswith(tuple(given.rows))]
    about = machine.describe("cpu")
    print(f"{about['processor']}; this commit {about['commit'][:12]}; times in ms")
    print(f"{given.threads} threads, {given.rounds} turns of {given.seconds:g} s")
    print(f"{'row':28}{'other':>10}{'this':>10}{'this / other':>14}{'(quartiles)':>16}")
    with tempfile.TemporaryDirectory() as place, ExitStack() as running:
        common = sys.executable, "fastmeta", "", "float32", given.threads, "cpu", Path(place)
        programs = {}
        for name, root in (("other", given.folder.resolve()), ("this", ROOT)):
            programs[name] = Program(*common, root=root)
            running.callback(programs[name].close)
        for workload in (w for w in chosen if w.kind != "process"):
            built(workload, programs, Path(place))
            times = turns(workload.parts[0], programs, given.rounds, given.seconds)
            other, this = (statistics.median(times[name]) for name in ("other", "this"))
            middle, first, last = ratios(times["this"], times["other"])
            spread = f"({first:.2f}-{last:.2f})"
            print(f"{workload.name:28}{other:>10.3g}{this:>10.3g}{middle:>14.2f}{spread:>16}", flush=True)


if __name__ == "__main__":
    main()
