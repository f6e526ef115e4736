"""Meta-learning with rewards: `python -m benchmarks.rl navigation --seeds 0 1 2 3 4`; corners, bandit, mdp,
halfcheetah, speed.

Returns of whole trainings on the same new tasks, rows untrained, pretrained on all tasks, MAML, and a policy that sees
the goal (the ceiling); bandits and MDPs beside their computed oracles. Intervals are over tasks; seeds are apart.
`speed` times meta-iterations, in turn with a peer's program where one is named. Returns do not depend on load.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fastmeta as fm
from fastmeta import rl
from fastmeta.rl import pictures

PEER = re.compile(r"cpu +([\d.]+) total +([\d.]+) s")
RATES = [0.5, 0.25]  # of the paper's test: the first step, and those behind it


def say(**row: Any) -> None:
    """One line of JSON."""
    print(json.dumps(row), flush=True)


def trained(learner: Any, world: Any, iterations: int, seed: int, **options: Any) -> Any:
    """`learner` after its training on 20 tasks an iteration, curvature from a quarter of the samples."""
    return learner.fit(world, iterations, 20, seed=seed, optimizer=rl.TrustRegion(curvature_share=0.25), **options)


def navigation(
    seed: int, iterations: int, device: str, rows: list[str], rates: list[float], goals: int
) -> Iterator[dict[str, Any]]:
    """The MAML paper's 2D navigation: 40 new goals, drawn with the seed `goals`, 40 trajectories a step, after 0 .. 3
    inner steps of `rates`."""
    world, net = rl.Navigation2D(), rl.gaussian_policy(2, 2)
    informed = rl.Informed(world)
    learners: dict[str, tuple[Any, Any, int]] = {
        "untrained": (rl.MAML(net, device=device), world, 0),
        "MAML": (rl.MAML(net, device=device), world, iterations),
        "pretrained": (rl.Pretrained(net, device=device), world, iterations),
        "goal seen": (rl.Pretrained(rl.gaussian_policy(4, 2), device=device), informed, iterations),
    }
    for name in rows or learners:
        learner, on, count = learners[name]
        begin = time.perf_counter()
        trained(learner, on, count, seed)
        scores = learner.evaluate(on, 40, [0, 1, 2, 3], rates, 40, seed=goals)
        after = {steps: str(score) for steps, score in scores.items()}
        means = [score.mean for score in scores.values()]
        row = {"row": name, "seed": seed, "iterations": count, "rates": rates, "return": after, "means": means}
        yield row | told(learner, begin)


def corners(seed: int, iterations: int, device: str, rows: list[str]) -> Iterator[dict[str, Any]]:
    """ProMP's sparse corners: 40 goals, a corner each, 40 trajectories a step; which end within 0.5 of theirs."""
    world, net = rl.Navigation2D(goals="corners", reward="sparse"), rl.gaussian_policy(2, 2, (64, 64), "tanh")
    learners: dict[str, Any] = {
        "ProMP": rl.ProMP(net, device=device),
        "MAML": rl.MAML(net, inner_lr=0.1, device=device),
    }
    worlds = {"goal": np.tile([[-2.0, -2.0], [-2.0, 2.0], [2.0, -2.0], [2.0, 2.0]], (10, 1))}
    for name in rows or ["ProMP"]:
        learner, begin = learners[name], time.perf_counter()
        more = {} if name == "ProMP" else {"optimizer": rl.TrustRegion(curvature_share=0.25)}
        learner.fit(world, iterations, 40, seed=seed, **more)
        row: dict[str, Any] = {"row": name, "seed": seed, "iterations": iterations}
        attempts = learner.attempts(world, worlds, 3, learner.inner_lr, 40, 1, list(range(40)))
        near = [np.linalg.norm(d.observations[:, :, -1] - worlds["goal"][:, None], axis=2) < 0.5 for d in attempts]
        row["trajectories at their corner"] = [round(float(each.mean()), 3) for each in near]
        row["goals that most reach"] = [round(float((each.mean(axis=1) > 0.5).mean()), 3) for each in near]
        row["return"] = [str(fm.Score(d.returns.mean(axis=1), "return", "")) for d in attempts]
        yield row | told(learner, begin)


def bandit(
    seed: int, iterations: int, device: str, arms: int, pulls: int, tasks: int, pooled: bool
) -> Iterator[dict[str, Any]]:
    """Reward of a pull before and after one step on `pulls` pulls, of 3,000 new bandits."""
    world = rl.Bandit(arms)
    for surrogate in ("ratio", "log"):
        net = rl.categorical_policy(1, arms, (32, 32))
        learner = rl.MAML(net, trajectories=pulls, surrogate=surrogate, pooled=pooled, device=device)
        begin = time.perf_counter()
        try:
            learner.fit(world, iterations, tasks, seed=seed)
        except fm.DivergenceError as error:  # a policy that explores no more finds no step
            say(ended=str(error))
        found = learner.evaluate(world, 3000, [0, 1], tasks_per_step=500)
        row = {"row": f"MAML, {surrogate}", "seed": seed, "arms": arms, "pulls": pulls, "tasks": tasks}
        row |= {"pooled": pooled, "iterations": learner.training.step}
        row |= {"return": {n: str(s) for n, s in found.items()}, "oracle": round(world.oracle(pulls), 3)}
        yield row | told(learner, begin) | {"history": learner.history}


def draw_bandits(curves: dict[str, list[dict[str, Any]]], oracle: float, path: Path) -> None:
    """Exploration lost and kept: entropy of theta's policy and the reward after a step, a line a seed, by iteration."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
    for color, (name, seeds) in enumerate(curves.items()):
        for i, history in enumerate(seeds):
            shown = name if i == 0 else None
            for panel, measure in zip(axes, ("entropy", "return_after"), strict=True):
                panel.plot(history[measure], color=f"C{color}", lw=1, label=shown)
    axes[0].set(xlabel="iteration", ylabel="entropy, nats", ylim=(0, None))
    axes[1].axhline(oracle, color="grey", lw=0.8, ls="--", label="oracle")
    axes[1].set(xlabel="iteration", ylabel="reward of a pull after one step")
    axes[1].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def mdp(seed: int, iterations: int, device: str) -> Iterator[dict[str, Any]]:
    """Return of ten steps after 0, 1 and 3 inner steps on 20 trajectories, of 300 new problems."""
    world = rl.TabularMDP()
    learner = rl.MAML(rl.categorical_policy(10, 5, (32, 32)), device=device)
    begin = time.perf_counter()
    learner.fit(world, iterations, 20, seed=seed)
    found = learner.evaluate(world, 300, [0, 1, 3], RATES)
    many = world.sample(1000, 0)
    bounds = {"random": world.random_return(many).mean(), "optimal": world.optimal_return(many).mean()}
    row = {"row": "MAML", "seed": seed, "iterations": iterations, "return": {n: str(s) for n, s in found.items()}}
    yield row | {name: round(float(value), 2) for name, value in bounds.items()} | told(learner, begin)


def halfcheetah(seeds: list[int], run: Path, picture: Path | None) -> Iterator[dict[str, Any]]:
    """Returns in both directions before and after steps of 0.1 of a run of `fastmeta train halfcheetah`, in this
    model's units: the mean of 40 trajectories and their standard deviation; seeds are those of the trajectories."""
    learner, world = fm.load(run / "checkpoint.safetensors"), rl.HalfCheetah("direction")
    for seed in seeds:
        attempts = learner.attempts(world, {"goal": np.array([1.0, -1.0])}, 3, 0.1, 40, seed, [0, 1])
        for steps, data in enumerate(attempts):
            found = {"iterations": learner.training.step, "row": f"after {steps}", "seed": seed}
            for name, returns in zip(("forward", "backward"), data.returns, strict=True):
                found |= {name: round(float(returns.mean()), 2), f"{name}, spread": round(float(returns.std()), 2)}
            yield found
    if picture:
        pictures.returns(picture, learner.history, "HalfCheetah, forward or backward")


def told(learner: Any, begin: float) -> dict[str, Any]:
    """Seconds, and what the history ends with."""
    history = learner.history
    if not len(history["loss"]):
        return {}
    last = {n: round(float(v[-10:].mean()), 4) for n, v in history.items() if n in ("entropy", "kl", "accepted")}
    return {"seconds": round(time.perf_counter() - begin, 1), "last ten": last}


def speed(device: str, peer: str | None, threads: int | None, rounds: int) -> Iterator[dict[str, Any]]:
    """A meta-iteration of 20 x 20 x 100 on 100-100, all samples and a quarter in products, and sampling.

    `peer`: a program that prints a line with "cpu 4.5 total 1.23 s" an iteration, CPU seconds of its process so far and
    wall-clock seconds, when it is called with the number of iterations, "loop" and 100, and with `threads`, if they
    are given; it runs in turn with ours. CPU seconds are of all threads: what other programs do changes them least.
    """
    world, net = rl.Navigation2D(), rl.gaussian_policy(2, 2)
    if threads:
        os.environ["FASTMETA_NUM_THREADS"] = str(threads)
    found: dict[str, dict[str, list[float]]] = {}

    def add(row: str, **values: float) -> None:
        for name, value in values.items():
            found.setdefault(row, {}).setdefault(name, []).append(value)

    for _ in range(rounds):
        for share in (1.0, 0.25):
            learner, clock = rl.MAML(net, device=device), [time.process_time()]
            region = rl.TrustRegion(curvature_share=share)
            learner.fit(world, 3, 20, optimizer=region, callback=lambda *_, c=clock: c.append(time.process_time()))
            history = learner.history
            add(
                f"curvature share {share}",
                seconds=float(history["seconds"][1:].min()),
                cpu_seconds=float(np.diff(clock)[1:].min()),
                env_steps_per_second=float((history["env_steps"] / history["seconds_sampling"])[1:].max()),
            )
        if peer:
            command = [sys.executable, peer, "3", "loop", "100", *([str(threads)] if threads else [])]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            pairs = [(float(cpu), float(wall)) for cpu, wall in PEER.findall(said)]
            add(Path(peer).name, seconds=min(wall for _, wall in pairs[1:]))
            add(Path(peer).name, cpu_seconds=float(np.diff([cpu for cpu, _ in pairs]).min()))
    for row, values in found.items():
        middle = {name: round(statistics.median(each), 3) for name, each in values.items()}
        yield {"row": row, "median": middle, "all": {name: np.round(each, 3).tolist() for name, each in values.items()}}


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("navigation", "corners", "bandit", "mdp", "halfcheetah", "speed"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rows", nargs="+", default=[], help="of navigation and corners")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="of navigation: of the steps at its test")
    parser.add_argument("--goals", type=int, default=1, help="of navigation: seed of the tasks at its test")
    parser.add_argument("--arms", type=int, default=5)
    parser.add_argument("--pulls", type=int, default=10)
    parser.add_argument("--tasks", type=int, default=100, help="of a bandit's iteration")
    parser.add_argument("--pooled", action="store_true", help="of bandits: advantages centred over all tasks")
    parser.add_argument("--picture", type=Path, help="of bandits and halfcheetah: the course of the training")
    parser.add_argument("--run", type=Path, help="of halfcheetah: the folder of a run of `fastmeta train halfcheetah`")
    parser.add_argument("--peer", help="of speed: a program to time in turn")
    parser.add_argument("--rounds", type=int, default=3, help="of speed")
    parser.add_argument("--threads", type=int, help="of speed: ours, and the peer's")
    given = parser.parse_args()
    say(fastmeta=fm.__version__, numpy=np.__version__, what=given.what, device=given.device)
    if given.what == "speed":
        for row in speed(given.device, given.peer, given.threads, given.rounds):
            say(**row)
        return
    if given.what == "halfcheetah":
        if not given.run:
            parser.error("it needs --run FOLDER, of `fastmeta train halfcheetah --tasks-per-step 4 --out FOLDER`")
        for row in halfcheetah(given.seeds, given.run, given.picture):
            say(**row)
        return
    usual = {"navigation": 100, "corners": 200, "bandit": 100, "mdp": 300}[given.what]
    iterations = usual if given.iterations is None else given.iterations
    curves: dict[str, list[dict[str, Any]]] = {}
    oracle = 0.0
    for seed in given.seeds:
        if given.what == "navigation":
            rows = navigation(seed, iterations, given.device, given.rows, given.rates, given.goals)
        elif given.what == "corners":
            rows = corners(seed, iterations, given.device, given.rows)
        elif given.what == "bandit":
            rows = bandit(seed, iterations, given.device, given.arms, given.pulls, given.tasks, given.pooled)
        else:
            rows = mdp(seed, iterations, given.device)
        for row in rows:
            if history := row.pop("history", None):
                curves.setdefault(row["row"], []).append(history)
                oracle = row["oracle"]
            say(**row)
    if given.picture and curves:
        draw_bandits(curves, oracle, given.picture)


if __name__ == "__main__":
    main()
