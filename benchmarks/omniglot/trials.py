"""Other recipes for a row, by their scores on validation characters: `python -m benchmarks.omniglot.trials`.

`python -m benchmarks.omniglot.trials maml-stride-5w1s "--iterations 2000" "--iterations 4000 --tasks-per-step 4"`
trains the row with each of these changes to its recipe and prints what 500 episodes of the 100 validation characters
say; the unseen characters that a row is scored on are not looked at. What was stopped goes on, what is done is read.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from benchmarks.omniglot.rows import ROWS, Row
from benchmarks.omniglot.runs import Place, seconds, trial


def line(row: Row, change: str, seed: int, place: Place) -> str:
    """Of the table, for one trial: accuracy and its interval, seconds of training, change."""
    folder = place.runs / "-".join([row.name, re.sub(r"[^\w.]+", "-", change).strip("-") or "as-it-is", f"seed{seed}"])
    score = trial(row, change, seed, folder, place)
    return f"{100 * score['mean']:6.2f} ± {100 * score['ci95']:.2f} %  {seconds(folder):6,.0f} s  seed {seed}  {change}"


def main(arguments: list[str] | None = None) -> None:
    """Train the trials that are missing, one after the other, and print their table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.omniglot.trials", description=__doc__)
    parser.add_argument("row", choices=ROWS, metavar="ROW", help="as in python -m benchmarks.omniglot --rows")
    parser.add_argument("changes", nargs="+", metavar="OPTIONS", help="of `fastmeta train omniglot`, as one word")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--episodes", type=int, default=500, help="of validation characters")
    parser.add_argument("--data", default="data", help="folder with the Omniglot archives")
    parser.add_argument("--runs", type=Path, default=Path("runs") / "trials", help="folder of the trials")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of the cpu device")
    options = parser.parse_args(arguments)
    place = Place(options.runs, options.data, options.episodes, options.device, options.threads)
    print(f"{options.row}: accuracy on {options.episodes} episodes of validation characters", flush=True)
    for change in options.changes:
        for seed in options.seeds:
            print(line(ROWS[options.row], change, seed, place), flush=True)


if __name__ == "__main__":
    main()
