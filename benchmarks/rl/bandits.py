"""Bandits and Markov decision processes, beside their computed oracles."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastmeta as fm
from benchmarks.rl.rows import RATES, say, told
from fastmeta import rl


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
