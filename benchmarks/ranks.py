"""Weak and strong scaling over MPI ranks, a cost model fitted to it, its projection: `python -m benchmarks.ranks`.

Each job is an `mpiexec` of this file; a rank has one thread. Samples are random: only their shapes count. What a
reduction takes includes the wait for the slowest rank.

One file of more than 200 lines, because what is measured and what is fitted to it are one model.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastmeta as fm
from benchmarks import machine
from fastmeta.ranks.blocks import block_count
from fastmeta.tasks.shares import share

RANKS = (1, 2, 4)
PROJECTED: tuple[int, ...] = tuple(2**i for i in range(11))
A_RANK = 32  # tasks of a rank in weak scaling, tasks of all in strong
COLLECTIVES = 3  # of an update: a word, parts of rows, sums
NETWORK = 20e-6, 1.2e9  # seconds a message, bytes a second: 10 Gbit Ethernet, assumed and not measured
PAYS = 0.5  # efficiency below which it stops paying


class Problem(NamedTuple):
    """What is trained; `updates` are timed."""

    net: fm.Network
    tasks: Any
    rate: float
    steps: int
    updates: int


def problem(name: str, small: bool) -> Problem:
    """A problem by its name; small: a net and few updates that show that the program works."""
    if name == "sinusoid":
        return Problem(fm.MLP((1, 40, 40, 1)), fm.tasks.Sinusoid(), 0.01, 1, 20 if small else 400)
    shape, width = ((28, 28, 1), 8 if small else 64) if name == "omniglot" else ((256,), 16 if small else 2900)
    net = fm.Conv4(channels=width) if name == "omniglot" else fm.MLP((256, width, width, 5))
    x, y = np.random.default_rng(0).random((200, *shape), np.float32), np.repeat(np.arange(20), 10)
    queries = 5 if name == "omniglot" else 2
    updates = 4 if small else {"omniglot": 16}.get(name, 2)
    return Problem(net, fm.tasks.from_arrays(x, y, shots=1, queries=queries), 0.1, 1, updates)


PROBLEMS = ("sinusoid", "omniglot", "10 M parameters")


def rank(name: str, tasks: int, small: bool, out: Path) -> None:
    """One rank of a job: train, and on the first rank write what an update took, in seconds."""
    from fastmeta.ranks.joining import joined

    group, made = joined("mpi"), problem(name, small)
    transport, spent = group._transport, [0.0]

    def timed(function: Any) -> Any:
        def called(*arguments: Any) -> Any:
            begin = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                spent[0] += time.perf_counter() - begin

        return called

    transport.words, transport.summed = timed(transport.words), timed(transport.summed)  # type: ignore[method-assign]
    reductions: list[float] = []

    def note(iteration: int, loss: float) -> None:
        reductions.append(spent[0])

    learner = fm.MAML(made.net, made.rate, made.steps)
    learner.fit(made.tasks, made.updates + 2, tasks, ranks="mpi", callback=note)
    if group.first:
        seconds = learner.history["seconds"][2:]
        found = {"update": float(np.median(seconds)), "reduction": float(np.median(np.diff(reductions)[1:]))}
        found["quickest_reduction"] = float(np.quantile(np.diff(reductions)[1:], 0.1))  # with the least wait
        if group.size == 1:
            found["draw"] = drawn_for_others(made)
            alone = learner.fit(made.tasks, made.updates + 2, tasks).history["seconds"][2:]
            found["without_ranks"] = float(np.median(alone))
        out.write_text(json.dumps(found | {"spread": np.quantile(seconds, [0.1, 0.9]).tolist()}))


def drawn_for_others(made: Problem) -> float:
    """Seconds that a rank's draw takes more for each task of the other ranks, of which there are 1,023."""

    def least(tasks: int) -> float:
        begin = [time.perf_counter()]
        for step in range(5):
            share(made.tasks, tasks, 0, A_RANK, 0, step)
            begin.append(time.perf_counter())
        return float(np.diff(begin).min())

    others = (PROJECTED[-1] - 1) * A_RANK
    return max(0.0, least(A_RANK + others) - least(A_RANK)) / others


def measured(name: str, ranks: int, tasks: int, small: bool) -> dict[str, Any]:
    """What an update of so many tasks took on so many ranks, in the quicker of two jobs; of 10 M parameters, in one."""
    jobs = [job(name, ranks, tasks, small) for _ in range(1 if name == PROBLEMS[-1] else 2)]
    found = min(jobs, key=lambda one: float(one["update"]))
    made = problem(name, small)
    return {"problem": name, "ranks": ranks, "tasks": tasks, "parameters": made.net.parameter_count} | found


def job(name: str, ranks: int, tasks: int, small: bool) -> dict[str, Any]:
    """What the first rank of a job found."""
    root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        launcher = [Path(sys.executable).with_name("mpiexec"), *root, "--oversubscribe", "--bind-to", "none"]
        words = [*launcher, "-n", ranks, sys.executable, "-m", "benchmarks.ranks", "--rank", name, tasks, out]
        environment = os.environ | {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        command = [str(word) for word in (*words, *(["--small"] if small else []))]
        subprocess.run(command, check=True, env=environment, timeout=1800)
        found: dict[str, Any] = json.loads(out.read_text())
    return found


def sent(parameters: int, tasks: int, ranks: int) -> float:
    """Bytes that a rank sends in an update: its part of each block's row, and its sums."""
    blocks = block_count(tasks) / ranks
    return 4 * parameters * (blocks + 1) * (ranks - 1) / ranks


def fitted(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Seconds of a task's work and draw by problem, of a message, and bytes a second, by least squares.

    update = tasks / ranks * work + tasks * draw + messages * latency + bytes / bandwidth
    """
    work, draw = {}, {}
    for name in dict.fromkeys(row["problem"] for row in rows):
        one = next(row for row in rows if row["problem"] == name and row["ranks"] == 1)
        draw[name] = one["draw"]
        work[name] = max(one["update"] / one["tasks"] - draw[name], 0.0)
    sums = [row for row in rows if row["ranks"] > 1]
    a = np.array([[COLLECTIVES * math.log2(r["ranks"]), sent(r["parameters"], r["tasks"], r["ranks"])] for r in sums])
    times = np.array([row["quickest_reduction"] for row in sums])
    weights = 1 / times  # relative errors
    latency, each_byte = np.linalg.lstsq(a * weights[:, None], times * weights, rcond=None)[0]
    bandwidth = 1 / each_byte if each_byte > 0 else math.inf
    return {"work": work, "draw": draw, "latency": max(float(latency), 0.0), "bandwidth": float(bandwidth)}


def predicted(model: dict[str, Any], name: str, parameters: int, tasks: int, ranks: int) -> float:
    """Seconds an update, by the model."""
    compute = tasks / ranks * model["work"][name] + tasks * model["draw"][name]
    messages = COLLECTIVES * math.log2(ranks) * model["latency"]
    return float(compute + messages + sent(parameters, tasks, ranks) / model["bandwidth"])


def projection(model: dict[str, Any], parameters: dict[str, int]) -> list[dict[str, Any]]:
    """Weak efficiency by problem and ranks, with what was measured here and with the network that is assumed."""
    network = model | {"latency": NETWORK[0], "bandwidth": NETWORK[1]}
    rows = []
    for name, count in parameters.items():
        for where, by in (("one machine", model), ("network", network)):
            one = predicted(by, name, count, A_RANK, 1)
            efficiency = {n: one / predicted(by, name, count, A_RANK * n, n) for n in PROJECTED}
            pays = [n for n, share in efficiency.items() if share >= PAYS]
            rows.append({"problem": name, "where": where, "efficiency": efficiency, "pays_up_to": max(pays)})
    return rows


def text(results: dict[str, Any]) -> str:
    """Tables of what was measured and projected."""
    lines = [results["machine"], *([results["caution"]] if results["caution"] else []), ""]
    lines.append(
        f"{'':<18}{'scaling':<8}{'ranks':>6}{'tasks':>7}{'ms':>10}{'reduction':>11}{'efficiency':>12}{'model':>8}"
    )
    for row in results["rows"]:
        name, model = row["problem"], results["model"]
        guess = predicted(model, name, row["parameters"], row["tasks"], row["ranks"])
        lines.append(
            f"{name:<18}{row['scaling']:<8}{row['ranks']:>6}{row['tasks']:>7}{1e3 * row['update']:>10.2f}"
            f"{row['reduction'] / row['update']:>11.1%}{row['efficiency']:>12.1%}{guess / row['update']:>8.2f}"
        )
    model = results["model"]
    alone = {row["problem"]: row["without_ranks"] for row in results["rows"] if row["ranks"] == 1}
    each = "; ".join(f"{name} {1e3 * seconds:.2f}" for name, seconds in alone.items())
    lines.append(f"\nms of the 32 tasks in one fit without ranks: {each}")
    each = "; ".join(f"{name} {1e6 * seconds:.2f}" for name, seconds in model["draw"].items())
    lines.append(f"us that a rank's draw takes more for each task of another: {each}")
    lines.append(f"a message: {1e6 * model['latency']:.0f} us; {model['bandwidth'] / 1e9:.2g} GB/s")
    chosen = (16, 128, 1024)
    lines.append(f"\n{'projected, weak':<18}{'':<13}" + "".join(f"{n:>8,}" for n in chosen) + f"{'pays up to':>12}")
    for row in results["projection"]:
        shares = "".join(f"{row['efficiency'][n]:>8.0%}" for n in chosen)
        lines.append(f"{row['problem']:<18}{row['where']:<13}{shares}{row['pays_up_to']:>12,}")
    return "\n".join(lines)


def draw(results: dict[str, Any], path: Path) -> None:
    """The projection as a picture."""
    from fastmeta import plots

    figure = plots.new_figure(7.0, 4.0)
    axes = figure.subplots()
    for row, color in zip(results["projection"], np.repeat(plots.STEPS[1:], 2), strict=False):
        style = "-" if row["where"] == "one machine" else "--"
        ranks, shares = zip(*row["efficiency"].items(), strict=True)
        axes.plot(ranks, shares, style, color=str(color), label=f"{row['problem']}, {row['where']}")
    axes.axhline(PAYS, color=plots.FAINT, linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.set(xlabel="ranks, 32 tasks each", ylabel="efficiency", ylim=(0, 1.05))
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)


def main(arguments: list[str] | None = None) -> None:
    """Measure, fit, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ranks", description=__doc__)
    parser.add_argument("problems", nargs="*", help=", ".join(PROBLEMS))
    parser.add_argument("--small", action="store_true", help="small nets and few updates: shows that it works")
    parser.add_argument("--caution", default="", help="what to say of this run, such as that other programs ran")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ranks.json"))
    parser.add_argument("--rank", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.rank:
        name, tasks, out = options.rank
        rank(name, int(tasks), options.small, Path(out))
        return
    rows, busy = [], machine.busy_cores()
    for name in options.problems or PROBLEMS:
        one = measured(name, 1, A_RANK, options.small)
        for ranks in RANKS:
            for scaling, tasks in (("weak", A_RANK * ranks), ("strong", A_RANK)):
                row = one if ranks == 1 else measured(name, ranks, tasks, options.small)
                share_of = ranks if scaling == "strong" else 1
                rows.append(row | {"scaling": scaling, "efficiency": one["update"] / (row["update"] * share_of)})
                print(rows[-1], file=sys.stderr, flush=True)
    model = fitted(rows)
    about = machine.describe("cpu")
    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    cores = f"{about['usable_cores']} cores, {busy} busy before"
    results = {
        "machine": f"{about['processor']}, {cores}; {when}, fastmeta at {about['commit']}",
        "caution": options.caution,
        "rows": rows,
        "model": model,
        "projection": projection(model, {row["problem"]: row["parameters"] for row in rows}),
    }
    options.out.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    options.out.with_suffix(".txt").write_text(text(results) + "\n", "utf-8")
    draw(results, options.out.with_suffix(".png"))
    print(text(results))


if __name__ == "__main__":
    main()
