"""How much faster ANIL trains and adapts than MAML, beside the paper's 1.7 and 4.1 times (arXiv 1909.09157, section 4).

`python -m benchmarks.anil`: the networks, tasks and inner steps are the same for both; the calls take turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import fastmeta as fm

STEPS, ROUNDS, SECONDS = 5, 5, 2.0
PROBLEMS: dict[str, tuple[fm.Network, int, int, int, int]] = {  # network, ways, shots, query images a class, tasks
    "Omniglot 20-way 1-shot": (fm.Conv4((28, 28, 1), 64, 20), 20, 1, 1, 16),
    "Omniglot 20-way 5-shot": (fm.Conv4((28, 28, 1), 64, 20), 20, 5, 5, 16),
    "miniImageNet 5-way 1-shot": (fm.Conv4((84, 84, 3), 32, 5, "pool"), 5, 1, 15, 4),
    "miniImageNet 5-way 5-shot": (fm.Conv4((84, 84, 3), 32, 5, "pool"), 5, 5, 15, 2),
}


def batch(net: fm.Network, ways: int, shots: int, queries: int, tasks: int) -> fm.Batch:
    """Random images."""
    rng = np.random.default_rng(0)
    sets: list[Any] = []
    for count in (shots, queries):
        sets.append(rng.standard_normal((tasks, ways * count, *net.input_shape)).astype(np.float32))
        sets.append(np.tile(np.repeat(np.arange(ways), count), (tasks, 1)))
    return fm.Batch(*sets)


def calls(learner: fm.MAML, data: fm.Batch) -> dict[str, Callable[[], object]]:
    """One training step's meta-gradient; and one task's adaptation, with the prediction of its query set."""
    first = data.x_support[0], data.y_support[0], data.x_query[0]
    return {
        "training": lambda: learner.meta_gradients(data),
        "adaptation": lambda: learner.adapt(*first[:2]).predict(first[2]),
    }


def medians(programs: list[Callable[[], object]]) -> list[float]:
    """Milliseconds of each, timed in turns."""
    times: list[list[float]] = [[] for _ in programs]
    for program in programs:
        program()
    for _ in range(ROUNDS):
        for program, found in zip(programs, times, strict=True):
            end = time.perf_counter() + SECONDS / ROUNDS
            while True:
                start = time.perf_counter()
                program()
                found.append(time.perf_counter() - start)
                if time.perf_counter() > end:
                    break
    return [1e3 * statistics.median(found) for found in times]


def main() -> None:
    """Print the table."""
    print(
        f"{STEPS} inner steps, float32, median of {ROUNDS} rounds in turns; paper: training 1.7, inference 4.1 times\n"
    )
    print(f"{'':28}{'':12}{'MAML ms':>10}{'ANIL ms':>10}{'times':>8}")
    for name, (net, *sizes) in PROBLEMS.items():
        data = batch(net, *sizes)
        learners = [kind(net, 0.01, STEPS).fit(_Once(data), 0) for kind in (fm.MAML, fm.ANIL)]
        programs = [calls(learner, data) for learner in learners]
        for what in ("training", "adaptation"):
            maml, anil = medians([program[what] for program in programs])
            print(f"{name:28}{what:12}{maml:>10.2f}{anil:>10.2f}{maml / anil:>8.2f}", flush=True)


class _Once:
    """A source of tasks that has one batch."""

    def __init__(self, data: fm.Batch) -> None:
        self.data = data

    def sample(self, tasks: int, seed: int, step: int = 0) -> fm.Batch:
        return self.data


if __name__ == "__main__":
    main()
