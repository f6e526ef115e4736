"""Measures figures, writes NAME.json and NAME.png under results/figures, and prints which claims hold.

`python -m benchmarks.figures [NAME ...] --data OMNIGLOT --fashion FASHION_MNIST`; without names, all of them.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import FIGURES, RESULTS, Options, figure


def main() -> None:
    """Measure, draw and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FIGURES)}; default: all")
    parser.add_argument("--data", help="folder with the Omniglot archives")
    parser.add_argument("--fashion", help="folder with the files of Fashion-MNIST")
    parser.add_argument("--runs", type=Path, default=Options.runs, help="where trained networks are kept")
    parser.add_argument("--small", action="store_true", help="at the size of tests, written nowhere")
    parser.add_argument("--draw", action="store_true", help="draw what is there again")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in FIGURES]:
        parser.error(f"{unknown[0]} must be one of {', '.join(FIGURES)}.")
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in options.names or FIGURES:
        of, path = figure(name), RESULTS / f"{name}.json"
        begin, cpu = time.perf_counter(), time.process_time()
        if options.draw:
            numbers = json.loads(path.read_text("utf-8"))
        else:
            numbers = plain(of.measure(options.small, Options(options.data, options.fashion, options.runs)))
            numbers["seconds"] = round(time.perf_counter() - begin, 1)
            numbers["cpu seconds"] = round(time.process_time() - cpu, 1)
        took = f"{numbers['seconds']} s, {numbers['cpu seconds']} s of CPU"
        print(f"{name}: {(of.__doc__ or '').splitlines()[0]} {took}")
        for claim, holds in of.claims(numbers).items():
            print(f"    {'yes' if holds else 'NO '}  {claim}", flush=True)
        if not options.small:
            path.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
            of.draw(numbers, path.with_suffix(".png"))


def plain(value: Any) -> Any:
    """As JSON reads it: numbers of six digits, lists, keys of text."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(one) for one in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.6g}")
    return int(value) if isinstance(value, np.integer) else value


if __name__ == "__main__":
    main()
