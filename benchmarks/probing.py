"""What a probe costs: processor seconds of `fit` with and without one every 100 iterations, in turn.

`python -m benchmarks.probing [--data OMNIGLOT] [--rounds N]` prints a line a setting: the seconds of a short training
without a probe, with one, and within the probe, and the probe's share of what the same training takes without; medians
over rounds, and of the share the middle half. Without --data of sinusoids alone.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

import fastmeta as fm

EVERY = 100
SETTINGS = {  # learner, tasks an iteration, iterations
    "sinusoids, 1 step, 25 tasks": (lambda: fm.MAML(fm.MLP((1, 40, 40, 1)), 0.01, 1), 25, 300),
    "sinusoids, tanh, 5 steps, 25 tasks": (lambda: fm.MAML(fm.MLP((1, 40, 40, 1), "tanh"), 0.01, 5), 25, 300),
    "Omniglot, Conv4-64, 1 step, 32 tasks": (lambda: fm.MAML(fm.Conv4(), 0.4, 1), 32, 100),
    "Omniglot, Conv4-32, 1 step, 16 tasks": (lambda: fm.MAML(fm.Conv4(channels=32), 0.4, 1), 16, 100),
    "Omniglot, Conv4-16, 5 steps, 4 tasks": (lambda: fm.MAML(fm.Conv4(channels=16), 0.1, 5), 4, 100),
}


def seconds(make: Any, tasks: Any, count: int, iterations: int, probed: bool) -> tuple[float, float]:
    """Of a training, and within its probes, but for the one of the first iteration."""
    learner, spent = make(), 0.0
    probe = fm.lab.Probe(learner, tasks, EVERY) if probed else None

    def look(iteration: int, loss: float) -> None:
        nonlocal spent
        begin = time.process_time()
        if probe is not None and iteration > 1:
            probe(iteration, loss)
        spent += time.process_time() - begin

    begin = time.process_time()
    learner.fit(tasks, iterations, tasks_per_step=count, seed=0, callback=look)
    return time.process_time() - begin, spent


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with the Omniglot archives")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    print(f"{'processor seconds':40}  without     with  in the probe   share  middle half")
    for name, (make, count, iterations) in SETTINGS.items():
        if name.startswith("Omniglot") and not options.data:
            continue
        omniglot = name.startswith("Omniglot")
        tasks: Any = (
            fm.tasks.Omniglot(options.data, queries=5).train if omniglot else fm.tasks.Sinusoid(shots=10, queries=10)
        )
        seconds(make, tasks, count, EVERY, True)  # compiles
        rows = []
        for _ in range(options.rounds):
            without = seconds(make, tasks, count, iterations, False)[0]
            whole, within = seconds(make, tasks, count, iterations, True)
            rows.append((without, whole, within, within / without))
        (without, whole, within, share), (low, high) = np.median(rows, axis=0), np.quantile(rows, (0.25, 0.75), 0)[:, 3]
        shares = f"{share:6.1%}  {low:.1%} .. {high:.1%}"
        print(f"{name:40}  {without:7.3f}  {whole:7.3f}  {within:12.3f}  {shares}", flush=True)


if __name__ == "__main__":
    main()
