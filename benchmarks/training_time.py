"""Time of a whole training beside learn2learn's: `python -m benchmarks.training_time`; see README.md.

A meta-update of the row omniglot-q5-s1 (Omniglot 5-way 1-shot, 32 tasks, one inner step) is an exact meta-gradient
and a step of Adam. The parameters after 40 updates are compared in float64; then each program makes 200, 40 a
round, in turn. What that takes is multiplied up to a whole training. Drawing episodes is in neither time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import machine, measure, run, table
from benchmarks.workloads import TRAINING

ITERATIONS = 37_076  # of the training in results/README.md that reaches 98.3 %


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_time", description=__doc__)
    run.add_options(parser, peers=("learn2learn",), seconds=1.0, name="training-time")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        row = measure.row(TRAINING, run.settings(options, Path(folder)))
    results: dict[str, Any] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "machine": machine.describe(options.device),
        "threads": options.threads,
        "versions": {},
    }
    run.add_versions(results["versions"], row)
    results["row"] = row
    options.out.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    print(text(results))
    print(f"\nwritten: {os.path.relpath(options.out)}")
    if any(entry["status"] != "timed" for entry in row["programs"]):
        sys.exit(1)


def text(results: dict[str, Any]) -> str:
    """A line for each program: milliseconds an update, and the minutes of ITERATIONS."""
    about, row = results["machine"], results["row"]
    part, own = row["parts"][0], row["programs"][0]
    lines = [
        f"{about['processor']}; {results['threads']} of {about['usable_cores']} cores; {results['date']}, "
        f"fastmeta at {about['commit']}",
        row["title"],
        "",
        f"{'':<14}{'ms an update':>14}{'rounds':>14}{f'{ITERATIONS:,} updates':>18}{'times':>8}{'f64':>8}",
    ]
    for entry in table.best_entries(row):
        if entry["status"] != "timed":
            lines.append(f"{entry['program']:<14}{entry['status']}")
            continue
        ms, rounds = (entry[key][part] for key in ("median_ms", "rounds_ms"))
        one, low, high = (t / TRAINING.updates for t in (ms, min(rounds), max(rounds)))
        minutes, times = ITERATIONS * one / 6e4, ms / own["median_ms"][part]
        spread, error = f"{low:.1f}-{high:.1f}", f"{entry['float64_error'][part]:.0e}"
        lines.append(f"{entry['program']:<14}{one:>14.1f}{spread:>14}{f'{minutes:.0f} min':>18}{times:>8.2f}{error:>8}")
    if max(row["others_busy_cores"]) > table.BUSY:
        lines.append("CAUTION: other programs kept cores busy.")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
