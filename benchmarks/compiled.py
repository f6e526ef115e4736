"""The library of kernels beside the compiler's: every row of README by both, in turns.

`python -m benchmarks.compiled FOLDER [rows ...]`: FOLDER holds the library of these sources. Two processes live at
once and take turns, as in benchmarks.turns. Prints, for each row, the median of the turns of either, and what the
library takes of the compiler's time: the median of the ratios of neighbouring turns, and their quartiles.
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

from benchmarks.program import Program
from benchmarks.turns import built, ratios, turns
from benchmarks.workloads import WORKLOADS
from fastmeta_kernels import library

MOST = 1.05  # of the compiler's time


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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of libraries")
    parser.add_argument("rows", nargs="*", help="beginnings of their names (default: all)")
    parser.add_argument("--rounds", type=int, default=20, help="turns of either (default: 20)")
    parser.add_argument("--seconds", type=float, default=0.1, help="of a turn, one call at least (default: 0.1)")
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
            same = "yes" if built(workload, both, Path(work)) else "no"
            times = turns(workload.parts[0], both, given.rounds, given.seconds)
            ours, theirs = (f"{statistics.median(times[name]):14.3f}" for name in ("library", "compiler"))
            middle, low, high = ratios(times["library"], times["compiler"])
            spread = f"{low:.3f}-{high:.3f}"
            print(f"{workload.name:28}{ours}{theirs}{middle:13.3f}{spread:>15}{same:>11}", flush=True)
            above += [workload.name] if middle > MOST else []
    print(f"above {MOST:g}: {', '.join(above) or 'none'}")


if __name__ == "__main__":
    main()
