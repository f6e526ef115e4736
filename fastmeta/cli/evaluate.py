"""`fastmeta evaluate`: how well a trained learner does on new tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

import fastmeta as fm
from fastmeta.algorithms.transfer.heads import HEADS
from fastmeta.cli.options import Whole, Wholes, Word, use_threads
from fastmeta.cli.problems.problem import BATCH_NORMS, EVALUATION_SEED, PROBLEMS, Problem
from fastmeta.cli.run_folder import RunFolder
from fastmeta.cli.speech import say
from fastmeta.device import DEVICES
from fastmeta.learning.gradient_learner import GradientLearner
from fastmeta.learning.learner import Learner
from fastmeta.tasks.parts import PARTS

Row = dict[str, Any]


@click.command(short_help="Score a trained learner on new tasks.")
@click.argument("run", type=click.Path())
@click.option("--episodes", type=Whole(), help="New tasks to evaluate on.  [default: as in the run]")
@click.option("--evaluation-steps", type=Wholes(0), help="Inner steps, as in 0,1,5,10.  [default: as in the run]")
@click.option("--ways", type=Whole(2), help="Classes in a task.  [default: as in the run]")
@click.option("--shots", type=Whole(), help="Samples that a task is learned from.  [default: as in the run]")
@click.option("--head", type=Word(HEADS), help="Head that transfer learning fits.  [default: as in the run]")
@click.option("--batch-norm", type=Word(BATCH_NORMS), help="Whose statistics.  [default: as in the run]")
@click.option("--part", type=Word(PARTS), default="test", show_default=True, help="Which classes.")
@click.option("--seed", type=Whole(0), default=EVALUATION_SEED, show_default=True, help="Decides the tasks.")
@click.option("--data", type=click.Path(), help="Folder with the images.  [default: as in the run]")
@click.option("--save", metavar="NAME", help="Keep the scores as NAME.json in RUN, for fastmeta compare.")
@click.option("--device", type=Word(DEVICES), default="cpu", show_default=True, help="Where to compute.")
@click.option("--threads", type=Whole(), help="Threads of the cpu device.  [default: all cores]")
def evaluate(
    run: str, device: str, threads: int | None, part: str, seed: int, save: str | None, **options: Any
) -> None:
    """Evaluate the learner in the folder RUN, as its last checkpoint has it, on new tasks.

    Ways and shots may differ from those of training; the gradient learners need at most the ways of training.
    """
    folder = RunFolder(Path(run))
    given = {key: value for key, value in options.items() if value is not None}
    settings = folder.config().updated(given)
    if save is not None and (not save.isidentifier() or save == "config"):
        raise ValueError(f'save="{save}" must be a word of letters, digits and "_", other than config. Rename it.')
    use_threads(threads, device)
    learner = fm.load(folder.checkpoint, device=device)
    if isinstance(learner, fm.Transfer):
        learner.head = settings["head"]
    elif "head" in given:
        raise ValueError(f'head="{given["head"]}" must be left out: {type(learner).__name__} fits no head.')
    if "evaluation_steps" in given and not isinstance(learner, GradientLearner):
        steps = given["evaluation_steps"]
        raise ValueError(f"evaluation_steps={steps} must be left out: {type(learner).__name__} takes no inner steps.")
    if "ways" in given and settings["problem"] == "sinusoid":
        raise ValueError(f"ways={given['ways']} must be left out: sinusoids have no classes.")
    problem = PROBLEMS[settings["problem"]](settings)
    say(f"{learner}\non {problem.title}, after {learner.training.step:,} iterations")
    steps, mode = settings["evaluation_steps"], settings.get("batch_norm")
    check_batch_norm(learner, mode)
    rows = scores(learner, problem, steps, settings["episodes"], seed, part, mode)
    if save is not None:
        save_scores(folder, save, learner, rows)
    print_scores(rows, problem, settings["episodes"])


def scores(
    learner: Learner,
    problem: Problem,
    steps: Sequence[int],
    episodes: int,
    seed: int,
    part: str = "test",
    batch_norm: str | None = None,
) -> list[Row]:
    """One row a number of shots and inner steps, as plain JSON values and the score in words."""
    rows = []
    for shots, tasks in problem.evaluations(part):
        if isinstance(learner, GradientLearner):
            found: dict[Any, fm.Score] = {**learner.evaluate(tasks, episodes, steps, seed, batch_norm=batch_norm)}
        else:
            found = {None: learner.evaluate(tasks, episodes, seed=seed)}
        for count, score in found.items():
            row = {"ways": getattr(tasks, "ways", None), "shots": shots, "inner_steps": count, "part": part}
            row |= {"mean": score.mean, "ci95": score.ci95, "median": score.median, "diverged": score.diverged}
            row |= {"measure": score.measure, "batch_norm": score.batch_norm, "text": str(score)}
            row |= {"algorithm": label(learner), "stream": score.stream}
            values = [value if math.isfinite(value) else None for value in score.values.tolist()]
            rows.append(row | {"values": values})
    return rows


def check_batch_norm(learner: Learner, mode: str | None) -> None:
    """ValueError where the learner has no such batch norm at evaluation."""
    if isinstance(learner, GradientLearner):
        learner.batch_norm_mode(mode)
    elif mode is not None:
        raise ValueError(f'batch_norm="{mode}" must be left out: {type(learner).__name__} has one mode only.')


def label(learner: Learner) -> str:
    """The algorithm in a table; for transfer learning with its head."""
    name = type(learner).__name__
    return f"{name} {learner.head}" if isinstance(learner, fm.Transfer) else name


def save_scores(folder: RunFolder, name: str, learner: Learner, rows: Sequence[Row]) -> None:
    """NAME.json in the run's folder."""
    seconds = float(learner.history["seconds"].sum())
    folder.write(f"{name}.json", {"training_seconds": seconds, "episodes": len(rows[0]["values"]), "scores": rows})


def print_scores(rows: Sequence[Row], problem: Problem, episodes: int) -> None:
    """A table: a line a number of shots, a column a number of inner steps."""
    steps = list(dict.fromkeys(row["inner_steps"] for row in rows))
    after = "" if steps == [None] else ", after inner steps"
    norm = f"; batch norm {rows[0]['batch_norm']}" if rows[0]["batch_norm"] else ""
    say(f"\n{problem.metric} on {episodes:,} new tasks ± 95 % interval ({problem.note}{norm}){after}")
    width = 2 + max(len(row["text"]) for row in rows)
    say("shots" + "".join(f"{'' if count is None else count:>{width}}" for count in steps))
    for shots in dict.fromkeys(row["shots"] for row in rows):
        cells = [row["text"] for row in rows if row["shots"] == shots]
        say(f"{shots:>5}" + "".join(f"{cell:>{width}}" for cell in cells))
    streams = dict.fromkeys(row["stream"] for row in rows)
    plural = "s" if len(streams) > 1 else ""
    say(f"\nepisode stream{plural} {', '.join(streams)}: `fastmeta compare` pairs scores of equal streams\n")
