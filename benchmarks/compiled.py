"""The library of kernels beside the compiler's: every row of README by both, in turns.

`python -m benchmarks.compiled FOLDER [rows ...]`: FOLDER holds the library of these sources. Prints, for each row, the
least time of a call by either, and what the library takes of the compiler's time.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.inputs import inputs
from benchmarks.program import Program
from benchmarks.workloads import WORKLOADS, Workload
from fastmeta_kernels import library


@contextmanager
def programs(folder: str, threads: int, place: Path) -> Iterator[dict[str, Program]]:
    """A worker by the library and one by the compiler, whose machine code is kept in `place`."""
    made: dict[str, Program] = {}
    try:
        for name, chosen in (("library", folder), ("compiler", "0")):
            os.environ["FASTMETA_LIBRARY"] = chosen
            made[name] = Program(sys.executable, "fastmeta", "", "float32", threads, "cpu", place)
        yield made
    finally:
        for one in made.values():
            one.close()


def row(workload: Workload, both: dict[str, Program], place: Path, rounds: int, seconds: float) -> dict[str, float]:
    """The least seconds of the row's call by either, in turns; AssertionError where their results differ."""
    file = str(place / "inputs.npz")
    np.savez(file, **inputs(workload))  # type: ignore[arg-type]
    part, found = workload.parts[0], {}
    for name, one in both.items():
        one.ask("build", workload=workload.name, inputs=file)
        one.ask("result", part=part, file=str(place / f"{name}.npy"))
        found[name] = float("inf")
    ours, theirs = (np.load(place / f"{name}.npy") for name in both)
    assert np.linalg.norm(ours - theirs) <= 1e-4 * np.linalg.norm(theirs), workload.name
    for _ in range(rounds):
        for name, one in both.items():
            answer: Any = one.ask("time", part=part, seconds=seconds)
            found[name] = min(found[name], *answer["times"])
    return found | {"same": float(np.array_equal(ours, theirs))}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of libraries")
    parser.add_argument("rows", nargs="*", help="beginnings of their names (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of a round")
    parser.add_argument("--place", type=Path, help="where machine code is kept from run to run (default: nowhere)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    os.environ["FASTMETA_LIBRARY"] = given.folder
    assert library.loaded() is not None, library.in_use()
    print(f"{library.in_use()}, {given.threads} threads, sources {library.stamp()[:16]}")
    print(f"{'row':28}{'library, ms':>14}{'compiler, ms':>14}{'of its time':>13}{'same bits':>11}")
    chosen = [w for w in WORKLOADS.values() if not given.rows or w.name.startswith(tuple(given.rows))]
    with (
        tempfile.TemporaryDirectory() as work,
        programs(given.folder, given.threads, given.place or Path(work)) as both,
    ):
        for workload in (w for w in chosen if w.kind not in ("process", "updates")):
            times = row(workload, both, Path(work), given.rounds, given.seconds)
            ours, theirs = times["library"], times["compiler"]
            same = "yes" if times["same"] else "no"
            print(
                f"{workload.name:28}{1e3 * ours:14.3f}{1e3 * theirs:14.3f}{ours / theirs:13.3f}{same:>11}", flush=True
            )


if __name__ == "__main__":
    main()
