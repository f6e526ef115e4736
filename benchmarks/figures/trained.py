"""The data and trained networks that several figures look at: 5-way 1-shot MAML and BOIL, kept in files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

import fastmeta as fm
from benchmarks.figures import Options
from fastmeta.tasks.labelled import LabelledTasks

ITERATIONS, TASKS, QUERIES = 1500, 16, 5


def images(small: bool, options: Options, part: str, shots: int = 1, queries: int = QUERIES) -> LabelledTasks:
    """5-way tasks of Omniglot's characters; small: of 20 random images in noise."""
    if not small:
        return getattr(fm.tasks.Omniglot(options.data, shots=shots, queries=queries), part)  # type: ignore[no-any-return]
    rng, labels = np.random.default_rng(part == "test"), np.repeat(np.arange(20), 20)
    x = rng.standard_normal((20, 8, 8, 1))[labels] + 0.3 * rng.standard_normal((400, 8, 8, 1))
    return fm.tasks.from_arrays(x.astype(np.float32), labels, ways=5, shots=shots, queries=queries)


def network(small: bool, channels: int = 32) -> fm.Network:
    """Conv4 with strides."""
    return fm.Conv4((8, 8, 1), channels=4) if small else fm.Conv4(channels=channels)


def fitted(
    name: str, make: Callable[[], Any], small: bool, options: Options, iterations: int = ITERATIONS, **fit: Any
) -> Any:
    """The learner of that name: from its file, or trained and kept there."""
    tasks = fit.pop("tasks", None) or images(small, options, "train")
    settings = {"tasks_per_step": TASKS, "optimizer": fm.Adam(fm.CosineSchedule(3e-3, 1e-4, iterations))} | fit
    if small:
        return make().fit(tasks, 10, **(settings | {"tasks_per_step": 4}))
    path = options.runs / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    return make().fit(tasks, iterations, checkpoint=path, resume=True, checkpoint_every=10**6, **settings)


def maml(small: bool, options: Options) -> fm.MAML:
    """MAML of one inner step of 0.4."""
    return fitted("maml", lambda: fm.MAML(network(small), 0.4, 1), small, options)  # type: ignore[no-any-return]


def boil(small: bool, options: Options) -> fm.BOIL:
    """BOIL of one inner step of 0.4."""
    return fitted("boil", lambda: fm.BOIL(network(small), 0.4, 1), small, options)  # type: ignore[no-any-return]


def with_sizes(tasks: LabelledTasks, shots: int, queries: int) -> LabelledTasks:
    """The same classes with other sizes."""
    return replace(tasks, shots=shots, queries=queries)
