"""Points in the plane: the MAML paper's goals, and the sparse corners of ProMP's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import fastmeta as fm
from benchmarks.rl.rows import told
from fastmeta import rl


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


def trained(learner: Any, world: Any, iterations: int, seed: int, **options: Any) -> Any:
    """`learner` after its training on 20 tasks an iteration, curvature from a quarter of the samples."""
    return learner.fit(world, iterations, 20, seed=seed, optimizer=rl.TrustRegion(curvature_share=0.25), **options)
