"""One training run: settings in, a run folder with checkpoint, log, score and pictures out."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from typing import Any

from numpy.typing import NDArray

import fastmeta as fm
from fastmeta.cli.evaluate import print_scores, save_scores, scores
from fastmeta.cli.log import Log, measured
from fastmeta.cli.options import use_threads
from fastmeta.cli.problems.problem import EVALUATION_SEED, Problem, Settings
from fastmeta.cli.progress import CHECKPOINT_SECONDS, Progress
from fastmeta.cli.recipes import new_learner, optimizer, recipe
from fastmeta.cli.run_folder import RunFolder
from fastmeta.cli.speech import say
from fastmeta.device import backend, compiles
from fastmeta.learning import checkpoint, starts
from fastmeta.learning.learner import Learner
from fastmeta.ranks.joining import writes

FREE_TO_CHANGE = ("iterations", "data", "patience")  # when a run goes on


def run(
    kind: type[Problem], given: Settings, out: str | None, resume: bool, threads: int | None, ranks: str | None
) -> None:
    """Train on a problem with the `given` settings, in the folder `out` or runs/ and a name; evaluate and draw.

    On `ranks` the first of them owns the folder; should it be lost, the one that becomes first.
    """
    name = {"problem": kind.name}
    folder = RunFolder(out or "runs/" + kind.run_name.format(**name, **recipe(kind, given)))
    fresh = {"fastmeta": fm.__version__} | name
    settings = resumed(folder, name | given) if resume else fresh | recipe(kind, given)
    use_threads(threads, settings["device"])
    backend(settings["device"])  # what is missing is said before anything is written
    if "patience" in settings and "validate_every" not in settings:
        raise ValueError(f"patience={settings['patience']} must come with validate_every. Give --validate-every.")
    problem = kind(settings)
    list(problem.evaluations())  # what the test part lacks is said before any training
    tasks = problem.training_tasks()
    learner = new_learner(settings, problem.network(tasks))
    learner.batch_norm_mode(settings.get("batch_norm"))
    if "start" in settings and not (resume and folder.checkpoint.exists()):
        starts.taken(learner, settings["start"])  # likewise
    if resume:
        history_so_far(folder, learner, settings)  # what it refuses is said before anything is written
    with ExitStack() as held:
        if writes(ranks):
            held.enter_context(folder.owned(settings, resume))
        history = history_so_far(folder, learner, settings) if resume else None
        say(f"{learner}\non {problem.title}, in {folder.path}")
        if left_out := getattr(tasks, "left_out", ()):
            say(f"Without classes that have too few images: {', '.join(map(str, left_out))}")
        if compiles(settings["device"]):
            say("Loading the kernels; on a machine that has never run them this compiles them.")
        try:
            fit(learner, tasks, problem, folder, history, ranks, held)
        except KeyboardInterrupt as interrupt:
            if folder.checkpoint.exists():
                done = f"Stopped after iteration {learner.training.step:,}; {folder.checkpoint} holds it."
                needed = {f"--{n}": str(settings[n]) for n, setting in kind.options.items() if setting.required}
                words = [word for pair in needed.items() for word in pair]
                again = shlex.join(["fastmeta", "train", kind.name, *words, "--out", str(folder.path), "--resume"])
                interrupt.args = (f"{done} Go on with: {again}",)
            raise
        finish(learner, problem, folder, ranks)


def history_so_far(folder: RunFolder, learner: Learner, settings: Settings) -> dict[str, NDArray[Any]] | None:
    """The history that a run's checkpoint holds; ValueError where it cannot go on to that many iterations."""
    if not folder.checkpoint.exists():
        return None
    saved = checkpoint.read(folder.checkpoint)
    losses, iterations = saved.history["loss"], settings["iterations"]
    if len(losses) > iterations:
        raise ValueError(f"iterations={iterations} must be at least {len(losses)}, which the run has done. Raise it.")
    if saved.settings.get("optimizer") != optimizer(learner, settings).to_dict():
        raise ValueError(
            f"iterations={iterations} must be what the run began with: its learning rate falls over the iterations. "
            "Leave it out, or start another run with --out."
        )
    return saved.history


def resumed(folder: RunFolder, given: Settings) -> Settings:
    """The stored settings of a run that goes on; a ValueError where those given contradict them."""
    stored = folder.config()
    for key, value in given.items():
        if key in FREE_TO_CHANGE:
            stored[key] = value
        elif stored.get(key) != (list(value) if isinstance(value, tuple) else value):
            raise ValueError(
                f"{key}={value} must be {stored.get(key)} as in {folder.path / 'config.json'}. "
                "Leave it out, or start another run with --out."
            )
    return stored


def fit(
    learner: Learner,
    tasks: fm.tasks.TaskSource,
    problem: Problem,
    folder: RunFolder,
    history: dict[str, NDArray[Any]] | None,
    ranks: str | None,
    held: ExitStack,
) -> None:
    """Train with progress, log and checkpoints, after this history; what owns the folder is `held`."""
    settings, log = problem.settings, None
    watched = validation(problem)
    shown = Progress(settings["iterations"], settings["tasks_per_step"], problem.checkpoint_every)
    with shown as progress, ExitStack() as logs:
        if writes(ranks):
            log = logs.enter_context(Log(folder, history))

        def show(iteration: int, loss: float) -> None:
            nonlocal log
            if log is None:  # the rank that owned the folder is lost
                held.enter_context(folder.owned(settings, resume=True))
                before = {name: values[: iteration - 1] for name, values in learner.history.items()}
                log = logs.enter_context(Log(folder, before))
            log.append(iteration, measured(learner.history, iteration - 1) | {"loss": loss})
            progress.step(iteration, loss)

        learner.fit(
            tasks,
            iterations=settings["iterations"],
            tasks_per_step=settings["tasks_per_step"],
            optimizer=optimizer(learner, settings),
            seed=settings["seed"],
            checkpoint=folder.checkpoint,
            checkpoint_every=problem.checkpoint_every,
            checkpoint_seconds=CHECKPOINT_SECONDS,
            resume=True,
            callback=show,
            ranks=ranks,
            start=settings.get("start"),
            **watched,
        )


def validation(problem: Problem) -> dict[str, Any]:
    """What fit is told of validation, the first of the problem's evaluations; nothing where the run has none."""
    if "validate_every" not in problem.settings:
        return {}
    shown = problem.note
    tasks = problem.validation_tasks()
    problem.note = shown
    every, patience = problem.settings["validate_every"], problem.settings.get("patience")
    return {"validation": tasks, "validate_every": every, "patience": patience}


def finish(learner: Learner, problem: Problem, folder: RunFolder, ranks: str | None) -> None:
    """Evaluate, write score.json, draw."""
    settings = problem.settings
    seconds = float(learner.history["seconds"].sum())
    say(f"{learner.training.step:,} iterations in {seconds:,.1f} s")
    if learner.best is not None:
        say(f"The best on validation, {learner.best.score:.4g}, after {learner.best.step:,} iterations is kept.")
    rows = scores(learner, problem, EVALUATION_SEED, ranks=ranks)
    if not writes(ranks):
        return
    save_scores(folder, "score", learner, rows)
    print_scores(rows, problem, settings["episodes"])
    try:
        from fastmeta import plots

        plots.learning_curve(
            folder.path / "learning_curve.png", learner.history["loss"], str(problem.title), problem.curve
        )
        pictures = ["learning_curve.png", *problem.draw(learner, folder)]
        say("Pictures: " + ", ".join(str(folder.path / picture) for picture in pictures))
    except ModuleNotFoundError as error:
        say(f"No pictures. {error}", err=True)
