"""`fastmeta lab`: the standard report of what a trained learner's meta-gradient looks like."""

from __future__ import annotations

import time
from pathlib import Path

import click

import fastmeta as fm
from fastmeta.cli.options import Whole, Word
from fastmeta.cli.problems import PROBLEMS
from fastmeta.cli.problems.problem import EVALUATION_SEED
from fastmeta.cli.run_folder import RunFolder
from fastmeta.cli.speech import say
from fastmeta.device import DEVICES
from fastmeta.learning.gradient_learner import GradientLearner


@click.command(short_help="Study the meta-gradient of a trained learner.")
@click.argument("run", type=click.Path())
@click.option("--episodes", type=Whole(), default=100, show_default=True, help="New tasks for scores.")
@click.option("--seed", type=Whole(0), default=EVALUATION_SEED, show_default=True, help="Decides the tasks.")
@click.option("--device", type=Word(DEVICES), default="cpu", show_default=True, help="Where to compute.")
def lab(run: str, episodes: int, seed: int, device: str) -> None:
    """Write lab.md and lab.png into the folder RUN: truncation, sharpness, layers, rounding, what adaptation gains.

    On tasks of training's ways and shots, of classes that were not trained on.
    """
    begin = time.perf_counter()
    folder = RunFolder(Path(run))
    settings = folder.config()
    learner = fm.load(folder.checkpoint, device=device)
    if learner.network_outputs == "policy":
        raise ValueError(
            f'run="{run}" must be of a learner from samples: the instruments have no worlds. Returns, KL and entropy '
            "of a policy's training are in log.jsonl, paths and curves in the folder; fastmeta evaluate gives returns."
        )
    if not isinstance(learner, GradientLearner):
        name = type(learner).__name__
        raise ValueError(f'run="{run}" must be of a learner that adapts by gradient steps, as MAML; {name} does not.')
    (_, tasks), *_ = PROBLEMS[settings["problem"]](settings).evaluations()
    found = fm.lab.report(learner, tasks, episodes, seed=seed)
    found.plot(str(folder.path / "lab.png"))
    folder.write_text("lab.md", found.page())
    say(found.page())
    say(f"{folder.path / 'lab.md'} and lab.png, {time.perf_counter() - begin:.1f} s")
