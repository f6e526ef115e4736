"""One training run: settings in, a run folder with checkpoint, log, score and pictures out."""

from __future__ import annotations

import shlex
from typing import Any

import click
from click.core import ParameterSource
from numpy.typing import NDArray

import fastmeta as fm
from fastmeta.cli.evaluate import print_scores, save_scores, scores
from fastmeta.cli.log import Log
from fastmeta.cli.options import use_threads
from fastmeta.cli.problems.problem import EVALUATION_SEED, PROBLEMS, Problem, Settings, new_learner
from fastmeta.cli.progress import Progress
from fastmeta.cli.recipes import optimizer
from fastmeta.cli.run_folder import RunFolder
from fastmeta.cli.speech import say
from fastmeta.cli.stored import NOT_STORED
from fastmeta.device import backend
from fastmeta.learning import checkpoint
from fastmeta.learning.learner import Learner

FREE_TO_CHANGE = ("iterations", "data")  # when a run goes on
CHECKPOINT_EVERY = {"sinusoid": 5000, "omniglot": 250, "images": 250}


def run(ctx: click.Context, settings: Settings, name: str) -> None:
    """Train as `settings` say in the folder `out` (runs/`name`), then evaluate and draw."""
    folder = RunFolder(settings["out"] or f"runs/{name}")
    resume = settings["resume"]
    use_threads(settings["threads"], settings["device"])
    backend(settings["device"])  # what is missing is said before anything is written
    stored: Settings = {"fastmeta": fm.__version__}
    stored |= {key: value for key, value in settings.items() if key not in NOT_STORED}
    settings = resumed(ctx, folder, stored) if resume else stored
    problem = PROBLEMS[settings["problem"]](settings)
    list(problem.evaluations())  # what the test part lacks is said before any training
    tasks = problem.training_tasks()
    learner = new_learner(settings, problem.network(tasks))
    learner.batch_norm_mode(settings["batch_norm"])
    with folder.owned(settings, resume):
        losses = losses_so_far(folder, settings) if resume else None
        say(f"{learner}\non {problem.title}, in {folder.path}")
        if left_out := getattr(tasks, "left_out", ()):
            say(f"Without classes that have too few images: {', '.join(map(str, left_out))}")
        if settings["device"] == "cpu":
            say("Loading the kernels; on a machine that has never run them this compiles them.")
        try:
            with Log(folder, losses) as log:
                fit(learner, tasks, settings, folder, log)
        except KeyboardInterrupt as interrupt:
            if folder.checkpoint.exists():
                done = f"Stopped after iteration {learner.training.step:,}; {folder.checkpoint} holds it."
                where = ["--data", settings["data"]] if settings["problem"] == "images" else []
                command = ["fastmeta", "train", settings["problem"], *where, "--out", str(folder.path), "--resume"]
                again = shlex.join(command)
                interrupt.args = (f"{done} Go on with: {again}",)
            raise
        finish(learner, problem, settings, folder)


def losses_so_far(folder: RunFolder, settings: Settings) -> NDArray[Any] | None:
    """The losses that a run's checkpoint holds; ValueError where it cannot go on to that many iterations."""
    if not folder.checkpoint.exists():
        return None
    saved = checkpoint.read(folder.checkpoint)
    losses, iterations = saved.history["loss"], settings["iterations"]
    if len(losses) > iterations:
        raise ValueError(f"iterations={iterations} must be at least {len(losses)}, which the run has done. Raise it.")
    if saved.settings.get("optimizer") != optimizer(settings).to_dict():
        raise ValueError(
            f"iterations={iterations} must be what the run began with: its learning rate falls over the iterations. "
            "Leave it out, or start another run with --out."
        )
    return losses


def resumed(ctx: click.Context, folder: RunFolder, settings: Settings) -> Settings:
    """The stored settings of a run that goes on; a ValueError where the command line contradicts them."""
    stored = folder.config()
    for key, value in settings.items():
        if ctx.get_parameter_source(key) != ParameterSource.COMMANDLINE and key != "problem":
            continue
        if key in FREE_TO_CHANGE:
            stored[key] = value
        elif stored.get(key) != (list(value) if isinstance(value, tuple) else value):
            raise ValueError(
                f"{key}={value} must be {stored.get(key)} as in {folder.path / 'config.json'}. "
                "Leave it out, or start another run with --out."
            )
    return stored


def fit(learner: Learner, tasks: fm.tasks.TaskSource, settings: Settings, folder: RunFolder, log: Log) -> None:
    """Train with progress, log and checkpoints."""
    with Progress(settings["iterations"], settings["tasks_per_step"]) as progress:

        def show(iteration: int, loss: float) -> None:
            log.append(iteration, loss)
            progress.step(iteration, loss)

        learner.fit(
            tasks,
            iterations=settings["iterations"],
            tasks_per_step=settings["tasks_per_step"],
            optimizer=optimizer(settings),
            seed=settings["seed"],
            checkpoint=folder.checkpoint,
            checkpoint_every=CHECKPOINT_EVERY[settings["problem"]],
            resume=True,
            callback=show,
        )


def finish(learner: Learner, problem: Problem, settings: Settings, folder: RunFolder) -> None:
    """Evaluate, write score.json, draw."""
    seconds = float(learner.history["seconds"].sum())
    say(f"{learner.training.step:,} iterations in {seconds:,.1f} s")
    steps, mode = settings["evaluation_steps"], settings["batch_norm"]
    rows = scores(learner, problem, steps, settings["episodes"], EVALUATION_SEED, batch_norm=mode)
    save_scores(folder, "score", learner, rows)
    print_scores(rows, problem, settings["episodes"])
    try:
        from fastmeta import plots

        plots.learning_curve(folder.path / "learning_curve.png", learner.history["loss"], str(problem.title))
        pictures = ["learning_curve.png", *problem.draw(learner, folder)]
        say("Pictures: " + ", ".join(str(folder.path / picture) for picture in pictures))
    except ModuleNotFoundError as error:
        say(f"No pictures. {error}", err=True)
