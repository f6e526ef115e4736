"""The results of a run as plain text: `python -m benchmarks.table FILE [--readme]`.

With --readme the short table of README.md is written anew from FILE, that of a run with --busy apart; a test compares
the two.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from benchmarks.peers import FASTMETA
from benchmarks.workloads import WORKLOADS

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
REGION = re.compile(r"<!-- measured: (?P<file>\S+) -->\n.*?<!-- end of measured -->\n", re.DOTALL)
BUSY = 0.2  # cores of other programs from which on a row is called disturbed
_COLUMNS = "{:<42}{:>11}{:>18}{:>8}{:>14}{:>7}{:>8}{:>7}{:>8}{:>9}{:>9}"
_HEADER = _COLUMNS.format(
    "", "median ms", "rounds ms", "times", "(rounds)", "peak", "MB", "start", "first", "f64", "f32"
)
LEGEND = """\
rounds: smallest and largest median of a round. times: as many times fastmeta's time. peak: share of the highest
GFLOP/s measured in this run. MB: peak resident memory. start: seconds to import. first: seconds of the first call,
compiling included. f64, f32: relative difference of the result from the NumPy reference's in float64. Each peer shows
its fastest variant; the JSON has all of them."""


def text(results: dict[str, Any]) -> str:
    """The whole table."""
    about, peaks = results["machine"], results["peak_gflops"]
    highest = highest_peak(results)
    bandwidth = results.get("bandwidth_gbs", ())
    lines = [
        f"{about['processor']}; {results['threads']} of {about['usable_cores']} cores; {about['system']}",
        *([about["gpu"]] if about.get("gpu") else []),
        f"{results['date']}, fastmeta at {about['commit'] or 'no commit'}, {results['minutes']:.0f} minutes",
        "; ".join(f"{name} {version}" for name, version in results["versions"].items()),
        f"float32 peak {highest:.0f} GFLOP/s: "
        + ", ".join(f"{p} {min(r[p] for r in peaks):.0f}-{max(r[p] for r in peaks):.0f}" for p in peaks[0])
        + (f"; memory {min(bandwidth):.0f}-{max(bandwidth):.0f} GB/s" if bandwidth else ""),
        f"fastmeta compiles its kernels once an installation: {results['compile_s']:.1f} s",
        *(["Every program was timed beside one busy process a core."] if results.get("busy") else []),
        "",
        _HEADER,
    ]
    for row in results["rows"]:
        lines += ["", *_row(row, highest)]
    disturbed = _disturbed(results)
    if disturbed:
        lines += ["", f"CAUTION: other programs kept cores busy around {', '.join(disturbed)}."]
    return "\n".join([*lines, "", LEGEND])


def readme_table(results: dict[str, Any], file: str) -> str:
    """README's marked region, made of nothing but the results in `file`, a path from the root of the clone."""
    about, highest = results["machine"], highest_peak(results)
    bests = {row["workload"]: best_entries(row) for row in results["rows"]}
    seen = {entry["program"] for entries in bests.values() for entry in entries if entry["status"] == "timed"}
    peers = [name for name in ("jax", "inductor", "torch", "learn2learn", "numpy") if name in seen]
    where = about.get("gpu") or about["processor"]
    lines = [
        f"<!-- measured: {file} -->",
        f"{where}, {results['threads']} of {about['usable_cores']} cores; {results['date']}, "
        f"fastmeta at {about['commit']}; {', '.join(f'{n} {v}' for n, v in results['versions'].items())}.",
        *(["Timed beside one busy process a core."] if results.get("busy") else []),
        *[f"**Other programs kept cores busy around {', '.join(d)}.**" for d in (_disturbed(results),) if d],
        "",
        f"| | fastmeta | {' | '.join(peers)} | share of peak |",
        f"|---|---|{'---|' * len(peers)}---|",
    ]
    for row in results["rows"]:
        part, own = row["parts"][0], bests[row["workload"]][0]
        if own["status"] != "timed":
            lines.append(f"| {row['title']} | {own['status']} |{' |' * len(peers)} |")
            continue
        by_name = {entry["program"]: entry for entry in bests[row["workload"]]}
        cells = [_readme_cell(by_name.get(name), own, part) for name in peers]
        share = f"{row['flops'][part] / own['median_ms'][part] / 1e6 / highest:.0%}" if row["flops"][part] else ""
        lines.append(f"| {row['title']} | {_ms(own['median_ms'][part])} ms | {' | '.join(cells)} | {share} |")
    return "\n".join([*lines, "<!-- end of measured -->", ""])


def _readme_cell(entry: dict[str, Any] | None, own: dict[str, Any], part: str) -> str:
    """Times fastmeta's time; bold where fastmeta is the slower one."""
    if entry is None or entry["status"] != "timed":
        return ""
    ratio = entry["median_ms"][part] / own["median_ms"][part]
    shown = f"{ratio:.2f} x" if ratio < 10 else f"{ratio:.0f} x"
    return f"**{shown}**" if ratio < 1 else shown


def highest_peak(results: dict[str, Any]) -> float:
    """The highest GFLOP/s of the run."""
    return max(rate for peak in results["peak_gflops"] for rate in peak.values())


def _disturbed(results: dict[str, Any]) -> list[str]:
    busy = {row["workload"]: max((cores or 0.0) for cores in row["others_busy_cores"]) for row in results["rows"]}
    return [f"{name} ({cores:.1f} cores)" for name, cores in busy.items() if cores > BUSY]


def best_entries(row: dict[str, Any]) -> list[dict[str, Any]]:
    """fastmeta, then each peer's fastest variant from fast to slow; a peer without any is one that says why."""
    part = row["parts"][0]
    best: dict[str, dict[str, Any]] = {}
    for entry in row["programs"]:
        known = best.get(entry["program"])
        if known is None or _time(entry, part) < _time(known, part):
            best[entry["program"]] = entry
    own = best.pop(FASTMETA)
    return [own, *sorted(best.values(), key=lambda entry: _time(entry, part))]


def _time(entry: dict[str, Any], part: str) -> float:
    return float(entry["median_ms"][part]) if entry["status"] == "timed" else float("inf")


def _row(row: dict[str, Any], highest: float) -> list[str]:
    part = row["parts"][0]
    own, *_ = entries = best_entries(row)
    lines = [f"{row['title']}{_target(row, entries)}"]
    for entry in entries:
        label = f"  {entry['program']} {entry['variant']}".rstrip()
        if entry["status"] != "timed":
            lines.append(f"{label:<42}{entry['status']}")
            continue
        rounds, median = entry["rounds_ms"][part], entry["median_ms"][part]
        ratio, ratios = _ratios(entry, own, part)
        lines.append(
            _COLUMNS.format(
                label,
                _ms(median),
                f"{_ms(min(rounds))}-{_ms(max(rounds))}",
                ratio,
                ratios,
                f"{row['flops'][part] / median / 1e6 / highest:.1%}" if row["flops"][part] else "",
                f"{entry['peak_rss_mb']:.0f}",
                f"{entry['start_s']:.1f}" if entry["start_s"] else "",
                f"{entry['first_call_s']:.2f}",
                *(f"{max(entry[error].values()):.0e}" for error in ("float64_error", "float32_error")),
            )
        )
        if part == "hvp":
            gradient = entry["median_ms"]["gradient"]
            lines.append(f"    one gradient {_ms(gradient)} ms; the product takes {median / gradient:.2f} gradients")
        if entry.get("event_ms"):
            lines.append(f"    by the GPU's clock {_ms(entry['event_ms'][part])} ms; {entry['device_mb']:.0f} MB there")
    return lines


def _target(row: dict[str, Any], entries: list[dict[str, Any]]) -> str:
    """What fastmeta should reach in a row, and what it reached."""
    own, *peers = entries
    target, part = WORKLOADS[row["workload"]].target, row["parts"][0]
    peers = [entry for entry in peers if entry["status"] == "timed"]
    if own["status"] != "timed":
        return ""
    said = []
    if target.times and peers:
        ratio = peers[0]["median_ms"][part] / own["median_ms"][part]
        said.append(f"target {target.times:g} x the best peer, measured {ratio:.2f} x ({peers[0]['program']})")
    if target.ms:
        said.append(f"target {target.ms:g} ms, measured {_ms(own['median_ms'][part])} ms")
    if target.gradients:
        gradients = own["median_ms"][part] / own["median_ms"]["gradient"]
        said.append(f"at most {target.gradients:g} gradients, measured {gradients:.2f}")
    return f"  [{'; '.join(said)}]" if said else ""


def _ratios(entry: dict[str, Any], own: dict[str, Any], part: str) -> tuple[str, str]:
    """An entry's time by fastmeta's, over all calls and round by round; nothing for fastmeta itself."""
    if entry is own or own["status"] != "timed":
        return "", ""
    rounds = [a / b for a, b in zip(entry["rounds_ms"][part], own["rounds_ms"][part], strict=True)]
    return f"{entry['median_ms'][part] / own['median_ms'][part]:.2f}", f"{min(rounds):.2f}-{max(rounds):.2f}"


def _ms(value: float) -> str:
    """Three significant digits."""
    digits = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}"


def main(arguments: list[str] | None = None) -> None:
    """Print the table, or write README's."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table", description=__doc__)
    parser.add_argument("file", type=Path, help="JSON file of a run")
    parser.add_argument("--readme", action="store_true", help="write the marked region of README.md from it")
    options = parser.parse_args(arguments)
    results = json.loads(options.file.read_text("utf-8"))
    if not options.readme:
        print(text(results))
        return
    file, written = options.file.resolve().relative_to(ROOT).as_posix(), README.read_text("utf-8")
    old = next(found[0] for found in REGION.finditer(written) if _is_busy(found["file"]) == results.get("busy", False))
    README.write_text(written.replace(old, readme_table(results, file)), "utf-8")


def _is_busy(file: str) -> bool:
    """Whether the programs of a run, whose results lie at a path from the root of the clone, were timed in company."""
    return bool(json.loads((ROOT / file).read_text("utf-8")).get("busy"))


if __name__ == "__main__":
    main()
