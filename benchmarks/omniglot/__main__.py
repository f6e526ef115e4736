"""Every algorithm on Omniglot, trained by its recipe and scored on the same 1,000 episodes of unseen characters.

`python -m benchmarks.omniglot --rows maml-stride-5w5s protonet-pool-20w5s --seeds 0,1,2 --data FOLDER` trains what is
not trained yet, row after row and seed after seed, goes on with what was stopped, scores each in every batch-norm mode,
and after each writes results/omniglot.json, the picture of the trainings and the table of docs/published.md anew. What
these hold and is not among the runs is kept. Without --rows: all rows on the network of their paper.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import click

from benchmarks.omniglot import results, table
from benchmarks.omniglot.rows import ROWS, USUAL
from benchmarks.omniglot.runs import Entry, Place, run

ROOT = Path(__file__).resolve().parents[2]
RESULTS, PAGE = ROOT / "benchmarks" / "results", ROOT / "docs" / "published.md"


def main(arguments: list[str] | None = None) -> None:
    """Train and score what is missing, and write what there is."""
    formats = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.omniglot", description=__doc__, **formats)  # type: ignore[arg-type]
    parser.add_argument("--rows", nargs="+", metavar="ROW", default=USUAL, help=f"of {', '.join(ROWS)}")
    parser.add_argument("--seeds", type=_seeds, default=[0, 1, 2], help="as in 0,1,2, which is the default")
    parser.add_argument("--data", default="data", help="folder with the Omniglot archives")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
    parser.add_argument("--episodes", type=int, default=1000, help="that a row is scored on")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of the cpu device")
    parser.add_argument("--table", action="store_true", help="train nothing: write and print what is there")
    parser.add_argument("--checkpoints", action="store_true", help="keep theta of each finished training")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of omniglot.json and the picture")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the table stands")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.rows if name not in ROWS]:
        parser.error(f"{unknown[0]} must be one of {', '.join(ROWS)}.")
    place = Place(options.runs, options.data, options.episodes, options.device, options.threads)
    for name in [] if options.table else options.rows:
        for seed in options.seeds:
            try:
                run(ROWS[name], seed, place)
            except click.ClickException as error:  # it diverged, for example: the others need not wait
                print(f"{name}, seed {seed}: {error.format_message()}", flush=True)
            _write(place, options.out, options.page)
    print(table.tables(_write(place, options.out, options.page)))
    if options.checkpoints:
        for path in results.keep_checkpoints(place, options.out / "checkpoints"):
            print(f"written: {path}")


def _write(place: Place, out: Path, page: Path) -> list[Entry]:
    """The JSON, the picture and the page, of all that is there."""
    entries = results.gathered(out / "omniglot.json", place)
    results.keep(entries, out / "omniglot.json")
    results.draw(entries, out / "omniglot-curves.png")
    table.rewrite(page, entries)
    return entries


def _seeds(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
