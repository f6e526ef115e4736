"""Meta-learning with rewards: `python -m benchmarks.rl navigation --seeds 0 1 2 3 4`; corners, bandit, mdp,
halfcheetah, speed.

Returns of whole trainings on the same new tasks, rows untrained, pretrained on all tasks, MAML, and a policy that sees
the goal (the ceiling); bandits and MDPs beside their computed oracles. Intervals are over tasks; seeds are apart.
`speed` times meta-iterations, in turn with a peer's program where one is named. Returns do not depend on load.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

import fastmeta as fm
from benchmarks.rl.bandits import bandit, draw_bandits, mdp
from benchmarks.rl.halfcheetah import halfcheetah
from benchmarks.rl.navigation import corners, navigation
from benchmarks.rl.rows import RATES, say
from benchmarks.rl.speed import speed


def main(arguments: list[str] | None = None) -> None:
    """Run what the command line names."""
    given = _parser().parse_args(arguments)
    say(fastmeta=fm.__version__, numpy=np.__version__, what=given.what, device=given.device)
    curves: dict[str, list[dict[str, Any]]] = {}
    oracle = 0.0
    for row in _rows(given):
        if history := row.pop("history", None):
            curves.setdefault(row["row"], []).append(history)
            oracle = row["oracle"]
        say(**row)
    if curves and given.picture:
        draw_bandits(curves, oracle, given.picture)


def _rows(given: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """What an experiment prints, seed after seed."""
    if given.what == "speed":
        yield from speed(given.device, given.peer, given.threads, given.rounds)
    if given.what == "halfcheetah":
        yield from halfcheetah(given.seeds, given.run, given.picture)
    for seed in given.seeds:
        if given.what == "navigation":
            yield from navigation(seed, given.iterations, given.device, given.rows, given.rates, given.goals)
        elif given.what == "corners":
            yield from corners(seed, given.iterations, given.device, given.rows)
        elif given.what == "bandit":
            pulled = given.arms, given.pulls, given.tasks, given.pooled
            yield from bandit(seed, given.iterations, given.device, *pulled)
        elif given.what == "mdp":
            yield from mdp(seed, given.iterations, given.device)


def _parser() -> argparse.ArgumentParser:
    """Each experiment with the options that it has."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rl", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    experiments = parser.add_subparsers(dest="what", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--seeds", type=int, nargs="+", default=[0])
    common.add_argument("--device", default="cpu")
    offered = {name: experiments.add_parser(name, parents=[common]) for name in _ITERATIONS}
    for name, iterations in _ITERATIONS.items():
        if iterations:
            offered[name].add_argument("--iterations", type=int, default=iterations)
    for name in ("navigation", "corners"):
        offered[name].add_argument("--rows", nargs="+", default=[], help="these learners alone")
    offered["navigation"].add_argument("--rates", type=float, nargs="+", default=RATES, help="of the steps at its test")
    offered["navigation"].add_argument("--goals", type=int, default=1, help="seed of the tasks at its test")
    offered["bandit"].add_argument("--arms", type=int, default=5)
    offered["bandit"].add_argument("--pulls", type=int, default=10)
    offered["bandit"].add_argument("--tasks", type=int, default=100, help="of an iteration")
    offered["bandit"].add_argument("--pooled", action="store_true", help="advantages centred over all tasks")
    for name in ("bandit", "halfcheetah"):
        offered[name].add_argument("--picture", type=Path, help="of the course of the training")
    folder = "of `fastmeta train halfcheetah --tasks-per-step 4 --out FOLDER`"
    offered["halfcheetah"].add_argument("--run", type=Path, required=True, metavar="FOLDER", help=folder)
    offered["speed"].add_argument("--peer", help="a program to time in turn")
    offered["speed"].add_argument("--rounds", type=int, default=3)
    offered["speed"].add_argument("--threads", type=int, help="ours, and the peer's")
    return parser


_ITERATIONS = {"navigation": 100, "corners": 200, "bandit": 100, "mdp": 300, "halfcheetah": None, "speed": None}

if __name__ == "__main__":
    main()
