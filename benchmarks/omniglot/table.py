"""The table of results: for each size a line a row, with its interval over tasks and its spread over seeds apart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fastmeta as fm
from benchmarks.omniglot.rows import PAPERS, PUBLISHED, ROWS, SUPPORT_EPISODES, USUAL
from benchmarks.omniglot.runs import Entry

REGION = re.compile(r"<!-- measured: (?P<file>\S*omniglot\.json) -->\n.*?<!-- end of measured -->\n", re.DOTALL)
BASE = "Transfer linear"  # what the others are compared with
SEEDS = 3  # that a row needs
HEADS = (
    "learner",
    "network",
    "seeds",
    "accuracy, %",
    "± tasks",
    "lowest - highest seed",
    "batch norm",
    f"support, {SUPPORT_EPISODES} episodes",
    "frozen",
    "less transfer",
    "published, %",
    "updates x tasks x drawings",
    "seconds",
)


def page(text: str, entries: Sequence[Entry]) -> str:
    """A page in which the table of these entries stands between its marks."""
    return REGION.sub(lambda mark: region(mark["file"], entries), text)


def region(file: str, entries: Sequence[Entry]) -> str:
    """The tables and their marks, as the page has them."""
    return f"<!-- measured: {file} -->\n{tables(entries)}\n<!-- end of measured -->\n"


def tables(entries: Iterable[Entry]) -> str:
    """Markdown: a table for each size that there is."""
    sizes: dict[str, dict[str, list[Entry]]] = {ROWS[name].size: {} for name in USUAL}
    for entry in entries:
        sizes.setdefault(entry["size"], {}).setdefault(entry["row"], []).append(entry)
    lines: list[str] = []
    for size in sorted(sizes, key=_numbers):
        ways, shots = _numbers(size)
        lines += [f"### {ways}-way {shots}-shot", ""]
        lines += [_line(HEADS), _line(["---"] * len(HEADS)).replace(" ", "")] if sizes[size] else []
        rows = sorted(sizes[size].values(), key=lambda seeds: list(PAPERS).index(seeds[0]["algorithm"]))
        base = _base(rows)
        lines += [*(_line(_cells(seeds, base)) for seeds in rows), *([""] if rows else [])]
        done = {seeds[0]["row"] for seeds in rows if len(seeds) >= SEEDS}
        lines += [_missing([name for name in USUAL if ROWS[name].size == size and name not in done]), ""]
    return "\n".join(lines).rstrip()


def _missing(names: Sequence[str]) -> str:
    """Which rows are not here with all of their seeds."""
    return f"Not here with {SEEDS} seeds: {', '.join(f'`{name}`' for name in names) or 'none'}."


def _cells(seeds: Sequence[Entry], base: Sequence[Entry]) -> list[str]:
    """One row: what all of its seeds have reached."""
    first = seeds[0]
    scores = [_usual(entry) for entry in seeds]
    means = [100 * score["mean"] for score in scores]
    spread = f"{min(means):.2f} - {max(means):.2f}" if len(seeds) > 1 else "one seed"
    modes = [_mean(entry["scores"].get(mode) for entry in seeds) for mode in ("support", "frozen")]
    config = first["config"]
    named = "" if first["network"] == PAPERS[first["algorithm"]] else " (not the paper's)"
    return [
        first["learner"],
        {"stride": "stride 2", "pool": "max-pool"}[first["network"]] + named,
        str(len(seeds)),
        f"**{np.mean(means):.2f}**",
        f"{100 * np.mean([score['ci95'] for score in scores]):.2f}",
        spread,
        scores[0]["batch_norm"],
        *modes,
        _paired(seeds, base),
        PUBLISHED.get(first["algorithm"], {}).get(first["size"], "-"),
        f"{config['iterations']:,} x {config['tasks_per_step']} x {config['queries']}",
        f"{np.mean([entry['seconds'] for entry in seeds]):,.0f}",
    ]


def _usual(entry: Entry) -> dict[str, Any]:
    """The score in the batch-norm mode that the learner predicts with unless told: the first."""
    return next(iter(entry["scores"].values()))


def _mean(scores: Iterable[dict[str, Any] | None]) -> str:
    """The mean of all seeds' scores in one mode; nothing where one has none."""
    found = list(scores)
    return f"{100 * np.mean([s['mean'] for s in found if s]):.2f}" if all(found) else ""


def _base(rows: Iterable[Sequence[Entry]]) -> Sequence[Entry]:
    """The row that the others of its size are compared with: that of transfer with most seeds."""
    return max((row for row in rows if row[0]["learner"] == BASE), key=len, default=())


def _paired(seeds: Sequence[Entry], base: Sequence[Entry]) -> str:
    """Its mean over seeds less that of the base, episode by episode; nothing where either kept none, or others."""
    own, other = _averaged(seeds), _averaged(base)
    if own is None or other is None or seeds is base or own.stream != other.stream:
        return ""
    return str(fm.compare(own, other)).replace(" points", "")


def _averaged(seeds: Sequence[Entry]) -> fm.Score | None:
    scores = [_usual(entry) for entry in seeds]
    if not scores or not all(score.get("values") for score in scores):
        return None
    values = np.array([score["values"] for score in scores], float).mean(axis=0)
    return fm.Score(values, scores[0]["measure"], scores[0]["batch_norm"], scores[0]["stream"])


def _numbers(size: str) -> tuple[int, int]:
    ways, _, shots = size.removesuffix("s").partition("w")
    return int(ways), int(shots)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def rewrite(path: Path, entries: Sequence[Entry]) -> None:
    """The page of results, with the table of these entries in it; nothing where there is no page."""
    if path.exists():
        path.write_text(page(path.read_text("utf-8"), entries), encoding="utf-8")
