"""What batch norm frozen at the support set costs: paired scores of each mode on Omniglot's test characters.

`python -m benchmarks.frozen RUN ... --data OMNIGLOT`: runs of `fastmeta train omniglot`; 1-shot and 5-shot, in the
run's ways. Every mode sees the same episodes. Intervals are over episodes: one seed of the training each.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import fastmeta as fm

EPISODES, QUERIES, SEED = 300, 5, 1_000_003


def scores(learner: Any, tasks: Any, inner_steps: int | None = None) -> dict[str, fm.Score]:
    """A score of each batch-norm mode that the learner offers, after the inner steps of training or as many as said."""
    options = {} if inner_steps is None else {"inner_steps": inner_steps}
    return {mode: learner.evaluate(tasks, EPISODES, seed=SEED, batch_norm=mode, **options) for mode in modes(learner)}


def modes(learner: Any) -> list[str]:
    """The modes that need no statistics of training."""
    return [mode for mode in learner.batch_norm_modes if mode != "running"]


def main() -> None:
    """Score and print."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("runs", nargs="+", type=Path)
    ask.add_argument("--data", required=True, help="folder with the Omniglot archives")
    ask.add_argument("--ways", type=int, default=5)
    ask.add_argument("--inner-steps", type=int, help="by default those of training")
    arguments = ask.parse_args()
    for run in arguments.runs:
        learner = fm.load(run / "checkpoint.safetensors")
        steps = arguments.inner_steps or getattr(learner, "inner_steps", None)
        scored = f"{EPISODES} episodes" + (f" after {steps} inner steps" if steps else "")
        print(f"{learner}, {learner.training.step:,} iterations; accuracy on {scored} ± 95 % interval")
        for shots in (1, 5):
            tasks = fm.tasks.Omniglot(arguments.data, ways=arguments.ways, shots=shots, queries=QUERIES).test
            found = scores(learner, tasks, arguments.inner_steps)
            print(f"  {arguments.ways}-way {shots}-shot")
            for mode, score in found.items():
                print(f"    {mode:<28}  {score}")
            for mode in [mode for mode in found if mode != "frozen"]:
                print(f"    frozen less {mode:<16}  {fm.compare(found['frozen'], found[mode])}", flush=True)


if __name__ == "__main__":
    main()
