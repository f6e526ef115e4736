"""`fastmeta export`: a trained learner as files that adapt without Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import fastmeta as fm
from fastmeta.algorithms.transfer.heads import HEADS
from fastmeta.cli.algorithms import BATCH_NORMS, share_head_of
from fastmeta.cli.options import Whole, Word
from fastmeta.cli.problems import PROBLEMS
from fastmeta.cli.problems.problem import EVALUATION_SEED, Problem, Settings
from fastmeta.cli.run_folder import RunFolder
from fastmeta.cli.speech import say
from fastmeta.exports.artifact import TARGETS
from fastmeta.exports.model import STORES, check_learner
from fastmeta.exports.trial import trial
from fastmeta.learning.gradient_learner import GradientLearner
from fastmeta.tasks import TaskSource


@click.command(short_help="Write a trained learner as C that adapts.")
@click.argument("run", type=click.Path())
@click.option("--to", type=Word(TARGETS), default="c", show_default=True, help="What is written.")
@click.option("--out", type=click.Path(), required=True, help="Folder of the files.")
@click.option("--name", default="model", show_default=True, help="Of the files, types and functions.")
@click.option("--samples", type=Whole(), help="The most samples of one adaptation.  [default: the run's support set]")
@click.option("--queries", type=Whole(), help="The most of one predict, batch norm transductive.  [default: samples]")
@click.option("--ways", type=Whole(2), help="The most classes of prototypes and centroids.  [default: as in the run]")
@click.option("--store", type=Word(STORES), default="float32", show_default=True, help="How parameters lie in flash.")
@click.option("--head", type=Word(HEADS), help="Head that transfer learning fits.  [default: as in the run]")
@click.option("--share-head", is_flag=True, help="Let all classes begin from the head's mean (anil).")
@click.option("--batch-norm", type=Word(BATCH_NORMS), help="Whose statistics.  [default: frozen]")
@click.option("--ram", type=Whole(), help="Bytes that state and work must fit into.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
@click.option("--dry-run", is_flag=True, help="Print the sizes and write nothing.")
@click.option("--episodes", type=Whole(), help="Then run the compiled files on so many of the run's episodes.")
@click.option("--data", type=click.Path(), help="Folder with the images.  [default: as in the run]")
def export(
    run: str, out: str, episodes: int | None, head: str | None, share_head: bool, data: str | None, **options: Any
) -> None:
    """Export the learner in the folder RUN, as its last checkpoint has it.

    NAME.h and NAME.c are C99 with an adapt() and a predict(); they need no heap and no library but sqrtf.
    """
    folder = RunFolder(Path(run))
    settings = folder.config().updated({} if data is None else {"data": data})
    learner = fm.load(folder.checkpoint)
    check_learner(learner)
    if isinstance(learner, fm.Transfer):
        learner.head = head or settings["head"]
    elif head is not None:
        raise ValueError(f'head="{head}" must be left out: {type(learner).__name__} fits no head.')
    if share_head:
        share_head_of(learner)
    curves = not PROBLEMS[settings["problem"]].has_classes
    if isinstance(learner, GradientLearner):
        options["loss"] = learner.loss or (fm.SquaredError() if curves else fm.CrossEntropy())
    else:
        options["ways"] = options["ways"] or settings["ways"]
    options["samples"] = options["samples"] or settings["shots"] * (1 if curves else settings["ways"])
    dry_run = options.pop("dry_run")
    sizes = fm.export(learner, out, dry_run=True, **options)
    say(f"{learner}\n{sizes}")
    if dry_run:
        return
    report = fm.export(learner, out, **options)
    for line in str(report).splitlines()[len(str(sizes).splitlines()) :]:
        say(line)
    if episodes is not None:
        problem: Problem = PROBLEMS[settings["problem"]](settings)
        tasks = episodes_of(problem, settings)
        say("")
        say(str(trial(out, options["name"], learner, tasks, episodes, EVALUATION_SEED, report.batch_norm)))


def episodes_of(problem: Problem, settings: Settings) -> TaskSource:
    """The run's evaluation tasks of the shots that it was trained for."""
    return next(tasks for shots, tasks in problem.evaluations() if shots == settings["shots"])
