"""`fastmeta evaluate`: how well a trained learner does on new tasks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

import fastmeta as fm
from fastmeta.cli.options import Whole, Wholes, Word, use_threads
from fastmeta.cli.problems import EVALUATION_SEED, PARTS, PROBLEMS, Problem
from fastmeta.cli.run_folder import RunFolder
from fastmeta.device import DEVICES
from fastmeta.gradient_learner import GradientLearner
from fastmeta.learner import Learner

Row = dict[str, Any]


@click.command(short_help="Score a trained learner on new tasks.")
@click.argument("run", type=click.Path())
@click.option("--episodes", type=Whole(), help="New tasks to evaluate on.  [default: as in the run]")
@click.option("--evaluation-steps", type=Wholes(0), help="Inner steps, as in 0,1,5,10.  [default: as in the run]")
@click.option("--part", type=Word(PARTS), default="test", show_default=True, help="Which characters (Omniglot).")
@click.option("--seed", type=Whole(0), default=EVALUATION_SEED, show_default=True, help="Decides the tasks.")
@click.option("--data", type=click.Path(), help="Folder with the Omniglot archives.  [default: as in the run]")
@click.option("--device", type=Word(DEVICES), default="cpu", show_default=True, help="Where to compute.")
@click.option("--threads", type=Whole(), help="Threads of the cpu device.  [default: all cores]")
def evaluate(run: str, device: str, threads: int | None, part: str, seed: int, **options: Any) -> None:
    """Evaluate the learner in the folder RUN, as its last checkpoint has it, on new tasks."""
    folder = RunFolder(Path(run))
    settings = folder.config() | {key: value for key, value in options.items() if value is not None}
    use_threads(threads, device)
    learner = fm.load(folder.checkpoint, device=device)
    problem = PROBLEMS[settings["problem"]](settings)
    click.echo(f"{learner}\non {problem.title}, after {learner.training.step:,} iterations")
    rows = scores(learner, problem, settings["evaluation_steps"], settings["episodes"], seed, part)
    print_scores(rows, problem, settings["episodes"])


def scores(
    learner: Learner, problem: Problem, steps: Sequence[int], episodes: int, seed: int, part: str = "test"
) -> list[Row]:
    """One row a number of shots and inner steps, as plain JSON values and the score in words."""
    rows = []
    for shots, tasks in problem.evaluations(part):
        if isinstance(learner, GradientLearner):
            found: dict[Any, fm.Score] = {**learner.evaluate(tasks, episodes, inner_steps=steps, seed=seed)}
        else:
            found = {None: learner.evaluate(tasks, episodes, seed=seed)}
        for count, score in found.items():
            row = {"shots": shots, "inner_steps": count, "mean": score.mean, "ci95": score.ci95, "part": part}
            row |= {"median": score.median, "diverged": score.diverged}
            rows.append(row | {"measure": score.measure, "batch_norm": score.batch_norm, "text": str(score)})
    return rows


def print_scores(rows: Sequence[Row], problem: Problem, episodes: int) -> None:
    """A table: a line a number of shots, a column a number of inner steps."""
    steps = list(dict.fromkeys(row["inner_steps"] for row in rows))
    after = "" if steps == [None] else ", after inner steps"
    click.echo(f"\n{problem.metric} on {episodes:,} new tasks ± 95 % interval ({problem.note}){after}")
    width = 2 + max(len(row["text"]) for row in rows)
    click.echo("shots" + "".join(f"{'' if count is None else count:>{width}}" for count in steps))
    for shots in dict.fromkeys(row["shots"] for row in rows):
        cells = [row["text"] for row in rows if row["shots"] == shots]
        click.echo(f"{shots:>5}" + "".join(f"{cell:>{width}}" for cell in cells))
    click.echo("")
