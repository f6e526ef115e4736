"""HalfCheetah, forward or backward, of a run that is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fastmeta as fm
from fastmeta import rl
from fastmeta.rl import pictures


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
