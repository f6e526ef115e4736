"""Time and memory against one size: `python -m benchmarks.curves [curve ...]`; see README.md."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import machine, measure, plots, run
from benchmarks.measure import Settings
from benchmarks.peers import VARIANTS
from benchmarks.program import ProgramError
from benchmarks.workloads import CURVES, WORKLOADS, Workload

THREADS = ("sinusoid-1000x1", "omniglot-q5-s1")  # rows of the curve "threads"
NAMES = (*CURVES, "threads")

# One variant of each program: that which was fastest in the rows, with a scan over inner steps where they are many.
_ONE = {
    "jax": {"mlp": ("vmap-scan",), "conv": ("map-scan-patches",)},
    "inductor": {"mlp": ("vmap",), "conv": ("loop",)},
    "torch": {"mlp": ("func",), "conv": ("eager-native-norm",)},
}


def main(arguments: list[str] | None = None) -> None:
    """Measure, write the numbers after every point, and draw them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curves", description=__doc__)
    parser.add_argument("curves", nargs="*", metavar="curve", help=f"of: {', '.join(NAMES)} (default: all)")
    parser.add_argument("--most", type=int, default=10**6, help="leave out points beyond this size (default: none)")
    run.add_options(parser, peers=("jax", "numpy"), seconds=1.0, name="curves")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.curves if name not in NAMES]
    if unknown:
        parser.error(f'curve="{unknown[0]}" must be one of {", ".join(NAMES)}.')
    out = options.out
    with tempfile.TemporaryDirectory() as folder:
        settings = run.settings(options, Path(folder))
        settings = replace(settings, variants={name: kinds | _ONE.get(name, {}) for name, kinds in VARIANTS.items()})
        try:
            _measure(options.curves or NAMES, options.most, settings, out)
        except (ProgramError, KeyboardInterrupt) as error:
            sys.exit(f"stopped: {error or 'interrupted'}. Finished points: {os.path.relpath(out)}")
    print(f"written: {os.path.relpath(out)}, {os.path.relpath(plots.curves(out))}")


def _measure(names: list[str] | tuple[str, ...], most: int, settings: Settings, out: Path) -> None:
    start = time.monotonic()
    results: dict[str, Any] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "machine": machine.describe(settings.device),
        "threads": settings.threads,
        "versions": {},
        "points": [],
    }
    for name in names:
        for value, workload, threads in _points(name, settings.threads):
            if value > most:
                continue
            row = measure.row(workload, replace(settings, threads=threads))
            run.add_versions(results["versions"], row)
            results["points"].append({"curve": name, "value": value} | row)
            results["minutes"] = round((time.monotonic() - start) / 60, 1)
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


def _points(name: str, threads: int) -> Iterator[tuple[int, Workload, int]]:
    """Value, workload and number of threads of each point."""
    if name != "threads":
        yield from ((value, workload, threads) for value, workload in CURVES[name].items())
        return
    for workload in (WORKLOADS[row] for row in THREADS):
        yield from ((count, workload, count) for count in sorted({1, threads} | set(range(2, threads, 2))))


if __name__ == "__main__":
    main()
