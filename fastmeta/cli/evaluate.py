"""`fastmeta evaluate`: how well a trained learner does on new tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

import fastmeta as fm
from fastmeta.cli.algorithms import AT_EVALUATION, BATCH_NORMS, share_head_of
from fastmeta.cli.options import Whole, Wholes, Word, option, use_threads
from fastmeta.cli.problems import PROBLEMS
from fastmeta.cli.problems.problem import EVALUATION_SEED, Problem
from fastmeta.cli.recipes import STEPPING
from fastmeta.cli.run_folder import RunFolder
from fastmeta.cli.speech import say
from fastmeta.cli.together import ranks_option, together
from fastmeta.device import DEVICES
from fastmeta.learning.gradient_learner import GradientLearner
from fastmeta.learning.learner import Learner
from fastmeta.learning.settings import arguments
from fastmeta.ranks.joining import writes
from fastmeta.rl.learner import PolicyLearner
from fastmeta.scores.confusion import MOST
from fastmeta.tasks.parts import PARTS

Row = dict[str, Any]


@click.command(short_help="Score a trained learner on new tasks.")
@click.argument("run", type=click.Path())
@click.option("--episodes", type=Whole(), help="New tasks to evaluate on.  [default: as in the run]")
@click.option("--evaluation-steps", type=Wholes(0), help="Inner steps, as in 0,1,5,10.  [default: as in the run]")
@click.option("--ways", type=Whole(2), help="Classes in a task.  [default: as in the run]")
@click.option("--shots", type=Whole(), help="Samples that a task is learned from.  [default: as in the run]")
@click.option(
    "--evaluation-queries", type=Whole(), help="Samples that the score is taken on.  [default: as in the run]"
)
@click.option("--batch-norm", type=Word(BATCH_NORMS), help="Whose statistics.  [default: as in the run]")
@click.option("--part", type=Word(PARTS), default="test", show_default=True, help="Which classes.")
@click.option("--seed", type=Whole(0), default=EVALUATION_SEED, show_default=True, help="Decides the tasks.")
@click.option("--data", type=click.Path(), help="Folder with the images.  [default: as in the run]")
@click.option("--save", metavar="NAME", help="Keep the scores as NAME.json in RUN, for fastmeta compare.")
@click.option("--share-head", is_flag=True, help="Let all classes begin from the head's mean (anil).")
@click.option("--by-class", is_flag=True, help="Print accuracies and confusions by class name, too.")
@click.option("--device", type=Word(DEVICES), default="cpu", show_default=True, help="Where to compute.")
@click.option("--threads", type=Whole(), help="Threads of the cpu device.  [default: all cores]")
def evaluate(
    run: str,
    device: str,
    threads: int | None,
    part: str,
    seed: int,
    save: str | None,
    share_head: bool,
    by_class: bool,
    ranks: str | None,
    **options: Any,
) -> None:
    """Evaluate the learner in the folder RUN, as its last checkpoint has it, on new tasks.

    Ways and shots may differ from those of training; the gradient learners need at most the ways of training.
    """
    with together(ranks, device):
        _evaluate(RunFolder(Path(run)), device, threads, part, seed, save, share_head, by_class, ranks, options)


evaluate.params.append(ranks_option())


for _name, _kind in AT_EVALUATION.items():
    _setting = arguments(_kind)[_name].setting
    _text = f"{_setting.text.rstrip('.')} ({_kind.word}).  [default: as in the run]"
    evaluate.params.insert(-6, option(_name, _setting, _text))


def _evaluate(
    folder: RunFolder,
    device: str,
    threads: int | None,
    part: str,
    seed: int,
    save: str | None,
    share_head: bool,
    by_class: bool,
    ranks: str | None,
    options: dict[str, Any],
) -> None:
    given = {key: value for key, value in options.items() if value is not None}
    settings = folder.config().updated(given)
    if save is not None and (not save.isidentifier() or save == "config"):
        raise ValueError(f'save="{save}" must be a word of letters, digits and "_", other than config. Rename it.')
    use_threads(threads, device)
    learner = fm.load(folder.checkpoint, device=device)
    for name in AT_EVALUATION.keys() & given.keys():
        if name not in learner.evaluation_settings:
            raise ValueError(f'{name}="{given[name]}" must be left out: {type(learner).__name__} has no {name}.')
        setattr(learner, name, given[name])
    if share_head:
        share_head_of(learner)
    if "evaluation_steps" in given and not isinstance(learner, STEPPING):
        steps = given["evaluation_steps"]
        raise ValueError(f"evaluation_steps={steps} must be left out: {type(learner).__name__} takes no inner steps.")
    kind = PROBLEMS[settings["problem"]]
    if "ways" in given and not kind.has_classes:
        raise ValueError(f"ways={given['ways']} must be left out: {kind.name} has no classes.")
    problem = kind(settings)
    say(f"{learner}\non {problem.title}, after {learner.training.step:,} iterations")
    learner.batch_norm_mode(settings.get("batch_norm"))
    found: list[fm.Score] = []
    rows = scores(learner, problem, seed, part, ranks, found.append)
    for row in rows if share_head else []:
        row["algorithm"] += " shared head"
    tables = [_tables(score) for score in found] if by_class else []
    if save is not None and writes(ranks):
        save_scores(folder, save, learner, rows)
    print_scores(rows, problem, settings["episodes"])
    for row, table in zip(rows, tables, strict=False):
        after = "" if row["inner_steps"] is None else f", after {row['inner_steps']} inner steps"
        say(f"By class, {row['shots']} shots{after}:\n{table}\n")


def scores(
    learner: Learner,
    problem: Problem,
    seed: int,
    part: str = "test",
    ranks: str | None = None,
    each: Callable[[fm.Score], Any] = lambda score: None,
) -> list[Row]:
    """One row a number of shots and inner steps, as plain JSON values and the score in words; `each` is shown it."""
    episodes, mode = problem.settings["episodes"], problem.settings.get("batch_norm")
    rows = []
    for shots, tasks in problem.evaluations(part):
        if isinstance(learner, GradientLearner):
            steps: Sequence[int] = problem.settings["evaluation_steps"]
            by_steps = learner.evaluate(tasks, episodes, steps, seed, batch_norm=mode, ranks=ranks)
            found: dict[Any, fm.Score] = {**by_steps}
        elif isinstance(learner, PolicyLearner):
            steps, rates = problem.settings["evaluation_steps"], problem.evaluation_rates()
            world: Any = tasks
            found = {**learner.evaluate(world, episodes, list(steps), rates, shots, seed=seed)}
        else:
            found = {None: learner.evaluate(tasks, episodes, seed=seed, batch_norm=mode, ranks=ranks)}
        for count, score in found.items():
            each(score)
            row = {"ways": getattr(tasks, "ways", None), "shots": shots, "inner_steps": count, "part": part}
            row |= {"mean": score.mean, "ci95": score.ci95, "median": score.median, "diverged": score.diverged}
            row |= {"measure": score.measure, "batch_norm": score.batch_norm, "text": str(score)}
            row |= {"algorithm": label(learner), "stream": score.stream}
            values = [value if math.isfinite(value) else None for value in score.values.tolist()]
            rows.append(row | {"values": values})
    return rows


def _tables(score: fm.Score) -> str:
    """The classes that are told worst, and what is taken for what."""
    header, *lines = score.per_class().table().splitlines()
    more = [f"and {len(lines) - MOST} more that are told better"] if len(lines) > MOST else []
    return "\n".join([header, *lines[:MOST], *more, "", score.confusion().table()])


def label(learner: Learner) -> str:
    """The algorithm in a table, with what may be changed at evaluation."""
    return " ".join([type(learner).__name__, *(str(getattr(learner, name)) for name in learner.evaluation_settings)])


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
