"""`fastmeta train`: the problems that can be trained, and their options and recipes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from fastmeta.cli.options import Rate, Whole, Wholes, Word
from fastmeta.cli.problems import ALGORITHMS, CLASSIFIERS
from fastmeta.cli.run import run
from fastmeta.device import DEVICES
from fastmeta.prototypes import METRICS


def training_options(
    recipe: dict[str, str | int | float | None], notes: dict[str, str], algorithms: Iterable[str] = ALGORITHMS
) -> Callable[..., Any]:
    """The options that all problems have, with a problem's own defaults and notes on them."""
    rows: list[tuple[str, click.ParamType[Any], str]] = [
        (
            "algorithm",
            Word(algorithms),
            "maml: exact second order. fomaml: first order. protonet (omniglot): class means.",
        ),
        ("shots", Whole(), "Samples that a task is learned from; of each class, where there are classes."),
        ("queries", Whole(), "Other samples, on which its loss is taken; likewise."),
        ("iterations", Whole(), "Meta-updates."),
        ("tasks-per-step", Whole(), "Tasks in one meta-update."),
        ("learning-rate", Rate(), "Adam's rate, for the meta-updates."),
        ("inner-lr", Rate(), "Rate of the inner steps, with which a task is learned."),
        ("inner-steps", Whole(), "Inner steps in training."),
        ("evaluation-steps", Wholes(0), "Inner steps at evaluation; several as in 0,1,5,10."),
        ("episodes", Whole(), "New tasks to evaluate on."),
        ("seed", Whole(0), "Decides the first parameters and the training tasks."),
        ("device", Word(DEVICES), "cpu: compiled and parallel. numpy: the slow reference. cuda: an NVIDIA GPU."),
        ("threads", Whole(), "Threads of the cpu device.  [default: all cores]"),
        ("out", click.Path(file_okay=False), "Folder of the run.  [default: runs/ and the run's name]"),
    ]
    defaults = {"algorithm": "maml", "learning-rate": 1e-3, "seed": 0, "device": "cpu"} | recipe

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        resume = "Go on with the run in that folder, to the same bits as if it had never stopped."
        command = click.option("--resume", is_flag=True, help=resume)(command)
        for name, kind, text in reversed(rows):
            default = defaults.get(name)
            shown = text if name not in notes else f"{text}  [default: {notes[name]}]"
            option = click.option(f"--{name}", type=kind, default=default, show_default=default is not None, help=shown)
            command = option(command)
        return command

    return decorate


@click.group(short_help="Train a learner: sinusoid or omniglot.")
def train() -> None:
    """Train a learner; the defaults are the MAML paper's recipes (arXiv 1703.03400)."""


@train.command()
@training_options(
    {
        "shots": 10,
        "queries": 10,
        "iterations": 15_000,
        "tasks-per-step": 25,
        "inner-lr": 0.01,
        "inner-steps": 1,
        "evaluation-steps": "0,1,5,10",
        "episodes": 600,
    },
    {},
)
@click.pass_context
def sinusoid(ctx: click.Context, /, **options: Any) -> None:
    """Learn sine curves from a few points: network 1-40-40-1, exact MAML.

    The paper ran 70,000 iterations.
    """
    name = "sinusoid-{algorithm}-{shots}shot-seed{seed}"
    run(ctx, {"problem": "sinusoid"} | options, name.format(**options))


@train.command()
@click.option("--ways", type=Whole(2), default=5, show_default=True, help="Classes in a task.")
@click.option("--train-ways", type=Whole(2), help="Classes in a training task.  [default: ways; protonet: 60]")
@click.option("--metric", type=Word(METRICS), help="Similarity to a prototype (protonet).  [default: euclidean]")
@click.option("--channels", type=Whole(), default=64, show_default=True, help="Channels of the four convolutions.")
@click.option(
    "--split",
    type=Word(("maml", "vinyals")),
    default="maml",
    show_default=True,
    help="Which characters are for training: 1,100 at random, or the list of Vinyals et al.",
)
@click.option(
    "--data",
    type=click.Path(),
    help="Folder with the Omniglot archives or images.  [default: FASTMETA_OMNIGLOT, else a download]",
)
@training_options(
    {"shots": 1, "iterations": 20_000, "episodes": 1000},
    {
        "queries": "shots; protonet: 5",
        "tasks-per-step": "32; 16 from 20 ways on; protonet: 1",
        "inner-lr": "0.4; 0.1 from 20 ways on",
        "inner-steps": "1; 5 from 20 ways on",
        "evaluation-steps": "3; 5 from 20 ways on",
    },
    CLASSIFIERS,
)
@click.pass_context
def omniglot(ctx: click.Context, /, **options: Any) -> None:
    """Learn handwritten characters from a few drawings: Conv4 with strides, transductive batch norm.

    The paper ran 60,000 iterations: --iterations 60000. With --algorithm protonet: Conv4 with pools, Adam's rate
    halved after each 2,000 episodes (arXiv 1703.05175).
    """
    embeds, few = options["algorithm"] == "protonet", options["ways"] < 20
    pointless = ("inner_lr", "inner_steps", "evaluation_steps") if embeds else ("metric", "train_ways")
    for name in pointless:
        if options[name] is not None:
            raise ValueError(f'{name}={options[name]} must be left out with algorithm="{options["algorithm"]}".')
    recipe = {
        "queries": options["shots"],
        "tasks_per_step": 32 if few else 16,
        "inner_lr": 0.4 if few else 0.1,
        "inner_steps": 1 if few else 5,
        "evaluation_steps": (3,) if few else (5,),
    }
    if embeds:
        recipe = {"queries": 5, "tasks_per_step": 1, "train_ways": 60, "metric": "euclidean", "evaluation_steps": ()}
    settings = {"problem": "omniglot"} | {k: recipe.get(k) if v is None else v for k, v in options.items()}
    if settings["data"] is not None:
        settings["data"] = str(Path(settings["data"]).resolve())
    name = "omniglot-{algorithm}-{ways}way-{shots}shot-seed{seed}"
    run(ctx, settings, name.format(**options))
