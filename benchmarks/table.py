"""The results of a run as plain text: `python -m benchmarks.table FILE`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.peers import FASTMETA

BUSY = 0.2  # cores of other programs from which on a row is called disturbed
_COLUMNS = "{:<38}{:>11}{:>18}{:>8}{:>14}{:>7}{:>8}{:>7}{:>8}{:>9}{:>9}"
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
    highest = max(rate for peak in peaks for rate in peak.values())
    lines = [
        f"{about['processor']}; {results['threads']} of {about['usable_cores']} cores; {about['system']}",
        f"{results['date']}, fastmeta at {about['commit'] or 'no commit'}, {results['minutes']:.0f} minutes",
        "; ".join(f"{name} {version}" for name, version in results["versions"].items()),
        f"float32 peak {highest:.0f} GFLOP/s: "
        + ", ".join(f"{p} {min(r[p] for r in peaks):.0f}-{max(r[p] for r in peaks):.0f}" for p in peaks[0]),
        f"fastmeta compiles its kernels once an installation: {results['compile_s']:.1f} s",
        "",
        _HEADER,
    ]
    for row in results["rows"]:
        lines += ["", *_row(row, highest)]
    busy = {row["workload"]: max((cores or 0.0) for cores in row["others_busy_cores"]) for row in results["rows"]}
    disturbed = [f"{name} ({cores:.1f} cores)" for name, cores in busy.items() if cores > BUSY]
    if disturbed:
        lines += ["", f"CAUTION: other programs kept cores busy around {', '.join(disturbed)}."]
    return "\n".join([*lines, "", LEGEND])


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
    part, lines = row["parts"][0], [row["title"]]
    own, *_ = entries = best_entries(row)
    for entry in entries:
        label = f"  {entry['program']} {entry['variant']}".rstrip()
        if entry["status"] != "timed":
            lines.append(f"{label:<38}{entry['status']}")
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
                f"{row['flops'][part] / median / 1e6 / highest:.1%}",
                f"{entry['peak_rss_mb']:.0f}",
                f"{entry['start_s']:.1f}",
                f"{entry['first_call_s']:.2f}",
                f"{entry['float64_error'][part]:.0e}",
                f"{entry['float32_error'][part]:.0e}",
            )
        )
        if "gradient" in row["parts"] and part != "gradient":
            gradient = entry["median_ms"]["gradient"]
            lines.append(f"    one gradient {_ms(gradient)} ms; the product takes {median / gradient:.2f} gradients")
    return lines


def _ratios(entry: dict[str, Any], own: dict[str, Any], part: str) -> tuple[str, str]:
    """An entry's time by fastmeta's, over all calls and round by round; nothing for fastmeta itself."""
    if entry is own or own["status"] != "timed":
        return "", ""
    rounds = [a / b for a, b in zip(entry["rounds_ms"][part], own["rounds_ms"][part], strict=True)]
    return f"{entry['median_ms'][part] / own['median_ms'][part]:.2f}", f"{min(rounds):.2f}-{max(rounds):.2f}"


def _ms(value: float) -> str:
    """Three significant digits."""
    return (
        f"{value:.3f}"
        if value < 1
        else f"{value:.2f}"
        if value < 10
        else f"{value:.1f}"
        if value < 100
        else f"{value:.0f}"
    )


if __name__ == "__main__":
    print(text(json.loads(Path(sys.argv[1]).read_text("utf-8"))))
