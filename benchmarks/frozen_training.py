"""Train as you test: a MAML finished with frozen statistics in its query loss, beside one finished as usual.

`python -m benchmarks.frozen_training --data OMNIGLOT --seeds 0,1,2`: each seed trains a MAML on 5-way 1-shot Omniglot,
then trains it further, from the same parameters on the same meta-batches, once with query_batch_norm="frozen" and once
without. Both are scored in every mode on the same test episodes. ± in a row: 95 % over its episodes; last: over seeds.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

import fastmeta as fm

EPISODES, EVALUATION_SEED, QUERIES = 300, 1_000_003, 5
MODES = ("transductive", "support", "frozen")
TASKS = 8


def maml(channels: int, query_batch_norm: str | None = None) -> fm.MAML:
    """The learner of every row."""
    net = fm.Conv4((28, 28, 1), channels, 5, downsample="stride")
    return fm.MAML(net, 0.1, 3, query_batch_norm=query_batch_norm)


def finished(start: fm.MAML, tasks: Any, iterations: int, seed: int, query_batch_norm: str | None) -> fm.MAML:
    """`start`, trained `iterations` more with a falling rate."""
    optimizer = fm.Adam(fm.CosineSchedule(1e-3, 1e-5, iterations))
    learner = maml(start.net.shapes[1][-1], query_batch_norm)
    return learner.fit(tasks, iterations, TASKS, optimizer, seed=seed + 1000, theta=start.theta)


def main() -> None:
    """Train, score and print."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--data", required=True, help="folder with the Omniglot archives")
    ask.add_argument("--seeds", default="0,1,2")
    ask.add_argument("--channels", type=int, default=16)
    ask.add_argument("--iterations", type=int, default=3000)
    ask.add_argument("--more", type=int, default=400)
    arguments = ask.parse_args()
    data = fm.tasks.Omniglot(arguments.data, ways=5, shots=1, queries=QUERIES)
    gains: dict[str, list[float]] = {mode: [] for mode in MODES}
    for seed in map(int, arguments.seeds.split(",")):
        start = maml(arguments.channels).fit(data.train, arguments.iterations, TASKS, seed=seed)
        usual, frozen = (finished(start, data.train, arguments.more, seed, how) for how in (None, "frozen"))
        print(f"seed {seed}: {start}, {arguments.iterations:,} + {arguments.more} iterations x {TASKS}", flush=True)
        for mode in MODES:
            pair = [score(learner, data.test, mode) for learner in (frozen, usual)]
            gains[mode].append(100 * float(pair[0].values.mean() - pair[1].values.mean()))
            print(f"  scored {mode:<13} {pair[0]} against {pair[1]}: {fm.compare(*pair)}", flush=True)
    for mode, found in gains.items():
        deviation = f" ± {np.std(found, ddof=1):.2f}" if len(found) > 1 else ""
        print(
            f"{mode:<13} gain of finishing frozen: {np.mean(found):+.2f}{deviation} points, mean and deviation of seeds"
        )


def score(learner: fm.MAML, tasks: Any, mode: str) -> fm.Score:
    """Accuracy on the test episodes with the statistics that `mode` names."""
    return learner.evaluate(tasks, episodes=EPISODES, seed=EVALUATION_SEED, batch_norm=mode)


if __name__ == "__main__":
    main()
