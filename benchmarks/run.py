"""Times of fastmeta and its peers: `python -m benchmarks.run [workload ...]`; see README.md for the rules."""

from __future__ import annotations

import argparse
import difflib
import importlib.util
import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import fresh, machine, measure, plots
from benchmarks.measure import Settings
from benchmarks.peers import FASTMETA, PEERS
from benchmarks.program import Program, ProgramError
from benchmarks.table import text
from benchmarks.workloads import WORKLOADS, Workload

RESULTS = Path(__file__).resolve().parent / "results"


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table and write the results; rows that are finished are written if it stops early."""
    options = (known := parser()).parse_args(arguments)
    try:
        workloads = _selected(options.workloads)
    except ValueError as error:
        known.error(str(error))
    out = options.out
    with tempfile.TemporaryDirectory() as folder:
        try:
            results = _run(workloads, settings(options, Path(folder)), out)
        except (ProgramError, KeyboardInterrupt) as error:
            sys.exit(f"stopped: {error or 'interrupted'}. Finished rows: {os.path.relpath(out)}")
    print(text(results))
    print(f"\nwritten: {os.path.relpath(out)}")
    if importlib.util.find_spec("matplotlib"):
        print(f"written: {os.path.relpath(plots.roofline(out))}")


def settings(options: argparse.Namespace, folder: Path) -> Settings:
    """Of the options that `add_options` adds."""
    python = dict.fromkeys(PEERS, _absolute(options.peers_python))
    python |= dict.fromkeys((FASTMETA, "numpy", "peak"), sys.executable)
    python["learn2learn"] = _absolute(options.learn2learn_python)
    return Settings(python, options.peers, options.threads, options.seconds, folder, options.device, options.busy)


def _absolute(python: str) -> str:
    """A path from here, because programs start in the clone; a bare name is looked for as the shell does."""
    return os.path.abspath(python) if os.sep in python else python


def _run(workloads: list[Workload], settings: Settings, out: Path) -> dict[str, Any]:
    start = time.monotonic()
    results: dict[str, Any] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "machine": machine.describe(settings.device),
        "device": settings.device,
        "threads": settings.threads,
        "busy": settings.busy,
        "seconds": settings.seconds,
        "peers": "best" if settings.peers is None else ",".join(settings.peers),
        "versions": {},
        "peak_gflops": [],
        "bandwidth_gbs": [],
        "compile_s": measure.compile_time(workloads[0], settings),
        "rows": [],
    }
    peak = settings.start("peak", "", "float32")
    try:
        peak.ask("build")
        _add_peak(results, peak)
        for workload in workloads:
            row = (fresh if workload.kind == "process" else measure).row(workload, settings)
            results["rows"].append(row)
            _add_peak(results, peak)
            add_versions(results["versions"], row)
            results["minutes"] = round((time.monotonic() - start) / 60, 1)
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    finally:
        peak.close()
    return results


def _add_peak(results: dict[str, Any], program: Program) -> None:
    rates = measure.peak(program)
    results["bandwidth_gbs"].append(rates.pop("triad"))
    results["peak_gflops"].append(rates)


def add_versions(versions: dict[str, str], row: dict[str, Any]) -> None:
    """Move them from the row's programs; a package in two versions shows both."""
    for entry in row["programs"]:
        for package, version in entry.pop("versions").items():
            known = versions.setdefault(package, version).split(" and ")
            versions[package] = " and ".join(dict.fromkeys([*known, version]))


def _selected(names: list[str]) -> list[Workload]:
    """Workloads whose name starts with one of `names`, in the order of the table; all for none."""
    for name in names:
        if not any(known.startswith(name) for known in WORKLOADS):
            near = difflib.get_close_matches(name, WORKLOADS, n=1, cutoff=0.4)
            advice = f'Did you mean "{near[0]}"?' if near else f"Known: {', '.join(WORKLOADS)}."
            raise ValueError(f'workload="{name}" must be the beginning of a workload\'s name. {advice}')
    return [w for w in WORKLOADS.values() if not names or any(w.name.startswith(name) for name in names)]


def _peers(value: str) -> tuple[str, ...] | None:
    if value == "best":
        return None
    names = tuple(name for name in value.split(",") if name)
    for name in names:
        if name not in PEERS:
            raise argparse.ArgumentTypeError(f'"{name}" must be one of {", ".join(PEERS)}, or "best" alone.')
    return names


def _threads(value: str) -> int:
    usable = len(os.sched_getaffinity(0))
    if not value.isdigit() or not 1 <= int(value) <= usable:
        raise argparse.ArgumentTypeError(f'"{value}" must be a whole number from 1 to {usable}, the usable cores.')
    return int(value)


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 3600:
        raise argparse.ArgumentTypeError(f'"{value}" must be a number of seconds above 0 and below 3600.')
    return seconds


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    found.add_argument(
        "workloads", nargs="*", metavar="workload", help=f"beginnings of: {', '.join(WORKLOADS)} (default: all)"
    )
    add_options(found, PEERS, seconds=5.0, name="times")
    return found


def add_options(parser: argparse.ArgumentParser, peers: tuple[str, ...], seconds: float, name: str) -> None:
    """What `run` and `curves` share, with their defaults."""
    parser.add_argument(
        "--peers",
        type=_peers,
        default=peers,
        help=f'which of {",".join(PEERS)}; "" for none, "best" for those of each row (default: {",".join(peers)})',
    )
    parser.add_argument(
        "--peers-python",
        default=os.environ.get("FASTMETA_PEERS_PYTHON", sys.executable),
        metavar="PATH",
        help="the interpreter that has JAX and PyTorch (default: FASTMETA_PEERS_PYTHON, else this one)",
    )
    parser.add_argument(
        "--learn2learn-python",
        default=os.environ.get("FASTMETA_LEARN2LEARN_PYTHON", sys.executable),
        metavar="PATH",
        help="the interpreter that has learn2learn (default: FASTMETA_LEARN2LEARN_PYTHON, else this one)",
    )
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=_threads, default=cores, help="of every program (default: all usable cores)")
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="where fastmeta, JAX and PyTorch compute; numpy stays on the CPU (default: %(default)s)",
    )
    parser.add_argument(
        "--busy", action="store_true", help="time every program beside one busy process a core, as on a shared machine"
    )
    parser.add_argument(
        "--seconds", type=_seconds, default=seconds, help="of timing for each program and row (default: %(default)g)"
    )
    file = RESULTS / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M}.json"
    parser.add_argument(
        "--out", type=Path, default=file, help=f"JSON file (default: benchmarks/results/{name}-DATE-TIME.json)"
    )


if __name__ == "__main__":
    main()
