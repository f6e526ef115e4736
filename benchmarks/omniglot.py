"""Every algorithm on Omniglot, trained by its recipe and scored on the same 1,000 episodes of unseen characters.

`python -m benchmarks.omniglot --data FOLDER [--runs FOLDER] [ROW ...]` trains what is not trained yet, row after row,
and goes on with what was stopped: an hour or less a row on one core. `--table` prints what is there. Rows of
results/omniglot.json whose runs are not there are kept, with their learning curves where they have one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastmeta as fm
from benchmarks.plots import learning_curve, training
from fastmeta.cli.run_folder import RunFolder

RESULTS = Path(__file__).resolve().parent / "results"
COSINE = "--final-learning-rate 1e-5"  # from 3e-3 and few tasks an update: more updates in the same time


class Row(NamedTuple):
    """A run: options of `fastmeta train omniglot`, and what its paper, or an independent one, says."""

    options: str
    published: str
    of: str = ""  # the run whose network is scored, where the row has none of its own


ROWS = {
    "maml-5w1s": Row("--algorithm maml --iterations 24000 --final-learning-rate 1e-5", "98.7 ± 0.4; others 97-98.4"),
    "maml-small-5w1s": Row(
        f"--algorithm maml --tasks-per-step 8 --iterations 40000 --learning-rate 3e-3 {COSINE}",
        "98.7 ± 0.4; others 97-98.4",
    ),
    "fomaml-5w1s": Row(
        f"--algorithm fomaml --tasks-per-step 8 --iterations 40000 --learning-rate 3e-3 {COSINE}", "98.3 ± 0.5"
    ),
    "reptile-5w1s": Row("--algorithm reptile --inner-lr 3e-3 --iterations 80000", "97.68 ± 0.04"),
    "anil-5w1s": Row(
        f"--algorithm anil --tasks-per-step 8 --iterations 20000 --inner-lr 0.5 --learning-rate 3e-3 {COSINE}", "-"
    ),
    "metasgd-5w1s": Row(
        f"--algorithm meta-sgd --tasks-per-step 8 --iterations 20000 --learning-rate 3e-3 {COSINE}", "99.53 ± 0.26"
    ),
    "mamlpp-5w1s": Row(
        "--algorithm maml++ --tasks-per-step 4 --queries 3 --iterations 16000 --inner-lr 0.4 --learning-rate 5e-3",
        "99.47",
    ),
    "imaml-5w1s": Row(
        f"--algorithm imaml --tasks-per-step 4 --queries 5 --iterations 20000 --learning-rate 3e-3 {COSINE}",
        "99.16 ± 0.35",
    ),
    "protonet-5w1s": Row(f"--algorithm protonet --iterations 5000 {COSINE}", "98.8; others 98.4"),
    "transfer-5w1s": Row(f"--algorithm transfer --iterations 5000 {COSINE}", "-"),
    "transfer-cosine-5w1s": Row("--head cosine", "-", "transfer-5w1s"),
    "transfer-centroid-5w1s": Row("--head centroid", "-", "transfer-5w1s"),
    "maml-20w1s": Row(
        "--algorithm maml --ways 20 --tasks-per-step 2 --queries 3 --iterations 60000 --inner-lr 0.4 "
        f"--learning-rate 3e-3 {COSINE}",
        "95.8 ± 0.3; others 83-94.5",
    ),
    "mamlpp-20w1s": Row(
        "--algorithm maml++ --ways 20 --tasks-per-step 2 --queries 3 --iterations 40000 --inner-lr 0.4 "
        "--learning-rate 5e-3",
        "97.65; others 96.65 ± 0.06",
    ),
    "anil-20w1s": Row(
        "--algorithm anil --ways 20 --tasks-per-step 4 --queries 3 --iterations 100000 --inner-lr 0.5 "
        f"--learning-rate 5e-3 {COSINE}",
        "96.2 ± 0.5",
    ),
    "protonet-20w1s": Row("--ways 20", "96.0; others 94.9", "protonet-5w1s"),
}


def where(name: str, runs: Path) -> tuple[Path, str]:
    """A row's run folder and the name of its scores there."""
    of = ROWS[name].of
    return (runs / of, name.replace("-", "_")) if of else (runs / name, "score")


def run(name: str, runs: Path, data: str) -> None:
    """Train and score a row, or go on; nothing where it is scored already."""
    row = ROWS[name]
    folder, scores = where(name, runs)
    if (folder / f"{scores}.json").exists():
        return
    command = [sys.executable, "-m", "fastmeta.cli"]
    if row.of:
        run(row.of, runs, data)
        command += ["evaluate", str(folder), "--save", scores, *row.options.split()]
    else:
        resume = ["--resume"] if (folder / "config.json").exists() else []
        command += ["train", "omniglot", "--data", data, "--out", str(folder), *row.options.split(), *resume]
    print(" ".join(command[2:]), flush=True)
    subprocess.run(command, check=True)


def found(name: str, runs: Path) -> dict[str, Any] | None:
    """What a row has reached: settings, training time and score; None where it is not scored."""
    folder, scores = where(name, runs)
    path = folder / f"{scores}.json"
    if not path.exists():
        return None
    content = json.loads(path.read_text("utf-8"))
    (score,) = content["scores"]
    config, seconds = RunFolder(folder).config(), content["training_seconds"]
    result = {"row": name, "config": config, "training_seconds": seconds, "score": score}
    log = folder / "log.jsonl"
    return result | {"curve": learning_curve(log)} if log.exists() and not ROWS[name].of else result


def saved() -> dict[str, dict[str, Any]]:
    """The rows of results/omniglot.json by name."""
    path = RESULTS / "omniglot.json"
    return {result["row"]: result for result in json.loads(path.read_text("utf-8"))} if path.exists() else {}


def keep(results: list[dict[str, Any]]) -> None:
    """Write them there: no folder of this machine, each episode's value to four digits."""
    for result in results:
        result["config"].pop("data", None)
        if "values" in result["score"]:
            result["score"]["values"] = [round(value, 4) for value in result["score"]["values"]]
    lines = ",\n".join(json.dumps(result) for result in results)
    (RESULTS / "omniglot.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: a line a row; differences are taken episode by episode to the first of as many ways that has them."""
    heads = "", "network", "iterations x tasks", "training", "inner steps", "batch norm", "accuracy, %"
    heads = (*heads, "published, %", "less the base")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    bases: dict[int, fm.Score] = {}
    for result in results:
        config, score, paired = result["config"], result["score"], ""
        ways = score["ways"]
        if "values" in score:
            own = fm.Score(np.array(score["values"]), score["measure"], score["batch_norm"], score["stream"])
            base = bases.setdefault(ways, own)
            paired = "base" if base is own else str(fm.compare(own, base)).replace(" points", "")
        network = "pool" if config["algorithm"] == "protonet" else "stride 2"
        minutes = "" if ROWS[result["row"]].of else f"{result['training_seconds'] / 60:.0f} min"
        steps = "-" if score["inner_steps"] is None else score["inner_steps"]
        reached = f"**{100 * score['mean']:.2f} ± {100 * score['ci95']:.2f}**"
        tasks = f"{config['iterations']:,} x {config['tasks_per_step']}"
        cells = [f"{score['algorithm']} {ways}-way", network, tasks, minutes, steps, score["batch_norm"], reached]
        lines.append("| " + " | ".join(map(str, [*cells, ROWS[result["row"]].published, paired])) + " |")
    return "\n".join(lines)


def main() -> None:
    """Train what is missing and write results/omniglot.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; default: all")
    parser.add_argument("--data", default="data", help="folder with the Omniglot archives")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--table", action="store_true", help="print the table of what is there")
    options = parser.parse_args()
    if unknown := [name for name in options.rows if name not in ROWS]:
        parser.error(f"{unknown[0]} must be one of {', '.join(ROWS)}.")
    for name in [] if options.table else options.rows or ROWS:
        run(name, options.runs, options.data)
    known = saved() | {name: result for name in ROWS if (result := found(name, options.runs))}
    results = [known[name] for name in ROWS if name in known]
    print(table(results))
    keep(results)
    if curves := {result["row"]: result["curve"] for result in results if "curve" in result}:
        training(curves, RESULTS / "omniglot-curves.png")


if __name__ == "__main__":
    main()
