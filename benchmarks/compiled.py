"""The library of kernels beside the compiler's: every row of README by both, in turns.

`python -m benchmarks.compiled FOLDER [rows ...]`: FOLDER holds the library of these sources. Two processes live at
once and are timed in slices, in turn: L C, C L, ... A slice counts by its median, a pair of slices by its ratio, so
that a machine that slows down for a minute slows down both. Prints, for each row, the median of the slices of either,
and what the library takes of the compiler's time: the median of the ratios, and their quartiles.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.inputs import inputs
from benchmarks.program import Program
from benchmarks.workloads import WORKLOADS, Workload
from fastmeta_kernels import library

MOST = 1.05  # of the compiler's time


class Row(NamedTuple):
    """Seconds of a call by the library and by the compiler, a slice each, and whether their results are the same."""

    library: list[float]
    compiler: list[float]
    same: bool

    @property
    def ratios(self) -> list[float]:
        """Of each pair of slices, the least first."""
        return sorted(ours / theirs for ours, theirs in zip(self.library, self.compiler, strict=True))


@contextmanager
def programs(folder: str, threads: int, place: Path) -> Iterator[dict[str, Program]]:
    """A worker by the library and one by the compiler, whose machine code is kept in `place`."""
    place.mkdir(parents=True, exist_ok=True)
    made: dict[str, Program] = {}
    try:
        for name, chosen in (("library", folder), ("compiler", "0")):
            os.environ["FASTMETA_LIBRARY"] = chosen
            made[name] = Program(sys.executable, "fastmeta", "", "float32", threads, "cpu", place)
        yield made
    finally:
        for one in made.values():
            one.close()


def timed(workload: Workload, both: dict[str, Program], place: Path, rounds: int, seconds: float) -> Row:
    """`rounds` slices of the row's call by either, in turn; AssertionError where their results differ."""
    file = str(place / "inputs.npz")
    np.savez(file, **inputs(workload))  # type: ignore[arg-type]
    times: dict[str, list[float]] = {name: [] for name in both}
    for name, one in both.items():
        one.ask("build", workload=workload.name, inputs=file)
        one.ask("result", part=workload.compared[0], file=str(place / f"{name}.npy"))
    ours, theirs = (np.load(place / f"{name}.npy") for name in both)
    assert np.linalg.norm(ours - theirs) <= 1e-4 * np.linalg.norm(theirs), workload.name
    for i in range(rounds):
        for name in sorted(both, reverse=i % 2 == 0):
            answer = both[name].ask("time", part=workload.parts[0], seconds=seconds)
            times[name].append(statistics.median(answer["times"]))
    return Row(times["library"], times["compiler"], bool(np.array_equal(ours, theirs)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of libraries")
    parser.add_argument("rows", nargs="*", help="beginnings of their names (default: all)")
    parser.add_argument("--rounds", type=int, default=20, help="slices of either (default: 20)")
    parser.add_argument("--seconds", type=float, default=0.1, help="of a slice, one call at least (default: 0.1)")
    parser.add_argument("--place", type=Path, help="where machine code is kept from run to run (default: nowhere)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    os.environ["FASTMETA_LIBRARY"] = given.folder
    assert library.loaded() is not None, library.in_use()
    print(f"{library.in_use()}, {given.threads} threads, sources {library.stamp()[:16]}")
    print(f"{'row':28}{'library, ms':>14}{'compiler, ms':>14}{'of its time':>13}{'quartiles':>15}{'same bits':>11}")
    chosen = [w for w in WORKLOADS.values() if not given.rows or w.name.startswith(tuple(given.rows))]
    above = []
    with (
        tempfile.TemporaryDirectory() as work,
        programs(given.folder, given.threads, given.place or Path(work)) as both,
    ):
        for workload in (w for w in chosen if w.kind != "process"):  # benchmarks.run times that one's processes
            row = timed(workload, both, Path(work), given.rounds, given.seconds)
            ours, theirs = (f"{1e3 * statistics.median(times):14.3f}" for times in (row.library, row.compiler))
            low, middle, high = statistics.quantiles(row.ratios, n=4)
            print(
                f"{workload.name:28}{ours}{theirs}{middle:13.3f}{f'{low:.3f}-{high:.3f}':>15}"
                f"{'yes' if row.same else 'no':>11}",
                flush=True,
            )
            above += [workload.name] if middle > MOST else []
    print(f"above {MOST:g}: {', '.join(above) or 'none'}")


if __name__ == "__main__":
    main()
