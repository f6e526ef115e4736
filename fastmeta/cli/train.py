"""`fastmeta train`: the problems that can be trained, and their options and recipes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fastmeta.algorithms.imaml import PROXIMAL
from fastmeta.algorithms.transfer.heads import HEADS
from fastmeta.cli import recipes
from fastmeta.cli.options import Rate, Whole, Wholes, Word
from fastmeta.cli.problems.problem import ALGORITHMS, BATCH_NORMS
from fastmeta.cli.run import run
from fastmeta.cli.stored import OPTIONS
from fastmeta.device import DEVICES
from fastmeta.gradients.prototypes import METRICS
from fastmeta.tasks.images.splits import PUBLISHED

ALGORITHM_OPTIONS: dict[str, tuple[click.ParamType[Any], str]] = {
    "inner-batch": (Whole(), "Samples of an inner step (reptile)."),
    "inner-optimizer": (Word(("adam", "sgd")), "Of the inner steps (reptile)."),
    "train-shots": (Whole(), "Shots in training, where they are not those of evaluation (reptile, protonet)."),
    "train-ways": (Whole(2), "Ways in training, where they are not those of evaluation (protonet)."),
    "metric": (Word(METRICS), "Similarity to a prototype (protonet).  [default: euclidean]"),
    "regularization": (Rate(), "How strongly a task stays near the start (imaml)."),
    "cg-steps": (Whole(), "Conjugate-gradient steps (imaml)."),
    "cg-damping": (Rate(zero=True), "Added to the regularization in their system (imaml).  [default: 0; omniglot 22]"),
    "proximal": (
        Word(PROXIMAL),
        "Whether each inner step goes back to the start too, or one step after them (imaml).  [default: inner; "
        "omniglot after]",
    ),
    "multi-step-iterations": (Whole(0), "Iterations with a loss after each inner step (maml++).  [default: a tenth]"),
    "first-order-iterations": (Whole(0), "First-order iterations at the start (maml++).  [default: 0]"),
}
SWITCHES = {
    "learn-inner-lr": "Learn the inner rates (maml, fomaml, anil, boil; maml++, of each step and array, by default).",
    "step-norms": "Batch norm's scale and shift of each inner step (maml++).  [default: on]",
    "running-statistics": "Keep batch norm's statistics of each inner step (maml++).  [default: off]",
}


def training_options(recipe: dict[str, str | int | float | None], notes: dict[str, str]) -> Callable[..., Any]:
    """The options that all problems have, with a problem's own defaults and notes on them."""
    rows: list[tuple[str, click.ParamType[Any], str]] = [
        ("algorithm", Word(ALGORITHMS), "What learns. Values that are left out are those of its paper."),
        ("shots", Whole(), "Samples that a task is learned from; of each class, where there are classes."),
        ("queries", Whole(), "Other samples, on which its loss is taken; likewise."),
        ("iterations", Whole(), "Meta-updates."),
        ("tasks-per-step", Whole(), "Tasks in one meta-update."),
        (
            "learning-rate",
            Rate(),
            "Rate of the meta-updates; falls with reptile and maml++.  [default: 1e-3; reptile 1]",
        ),
        ("final-learning-rate", Rate(), "Where that rate ends, along a cosine over the iterations.  [default: none]"),
        ("inner-lr", Rate(), "Rate of the inner steps, with which a task is learned."),
        ("inner-steps", Whole(), "Inner steps in training."),
        ("evaluation-steps", Wholes(0), "Inner steps at evaluation; several as in 0,1,5,10."),
        ("episodes", Whole(), "New tasks to evaluate on."),
        ("batch-norm", Word(BATCH_NORMS), "Whose statistics at evaluation.  [default: transductive]"),
        ("seed", Whole(0), "Decides the first parameters and the training tasks."),
        ("device", Word(DEVICES), "cpu: compiled and parallel. numpy: the slow reference. cuda: an NVIDIA GPU."),
        ("threads", Whole(), "Threads of the cpu device.  [default: all cores]"),
        ("out", click.Path(file_okay=False), "Folder of the run.  [default: runs/ and the run's name]"),
    ]
    defaults = {"algorithm": "maml", "seed": 0, "device": "cpu"} | recipe

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        resume = "Go on with the run in that folder, to the same bits as if it had never stopped."
        command = click.option("--resume", is_flag=True, help=resume)(command)
        for name, text in reversed(SWITCHES.items()):
            command = click.option(f"--{name}/--no-{name}", default=None, help=text)(command)
        for name, (kind, text) in reversed(ALGORITHM_OPTIONS.items()):
            command = click.option(f"--{name}", type=kind, help=text)(command)
        for name, kind, text in reversed(rows):
            default = defaults.get(name)
            shown = text if name not in notes else f"{text}  [default: {notes[name]}]"
            option = click.option(f"--{name}", type=kind, default=default, show_default=default is not None, help=shown)
            command = option(command)
        return command

    return decorate


head_option = click.option(
    "--head",
    type=Word(HEADS),
    default="linear",
    show_default=True,
    help="Head that --algorithm transfer fits to a task's features.",
)


@click.group(short_help="Train a learner: sinusoid, omniglot or images.")
def train() -> None:
    """Train a learner; the defaults are the MAML paper's recipes (arXiv 1703.03400)."""


@train.command()
@training_options(
    {
        "shots": 10,
        "queries": 10,
        "iterations": 15_000,
        "episodes": 600,
    },
    {
        "tasks-per-step": "25",
        "inner-lr": "0.01; anil 0.05, reptile 0.02",
        "inner-steps": "1; anil, maml++ 5, reptile 8, imaml 16",
        "evaluation-steps": "0,1,5,10; reptile to 32, imaml to 16",
    },
)
@click.pass_context
def sinusoid(ctx: click.Context, /, **options: Any) -> None:
    """Learn sine curves from a few points with the network 1-40-40-1.

    The paper ran 70,000 iterations.
    """
    name = "sinusoid-{algorithm}-{shots}shot-seed{seed}"
    run(ctx, {"problem": "sinusoid"} | recipes.sinusoid(options), name.format(**options))


@train.command()
@click.option("--ways", type=Whole(2), default=5, show_default=True, help="Classes in a task.")
@click.option("--channels", type=Whole(), default=64, show_default=True, help="Channels of the four convolutions.")
@head_option
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
        "queries": "shots; protonet 5",
        "tasks-per-step": "32; 16 from 20 ways on; maml++ 8, reptile 5, protonet 1, transfer 2 batches of 64",
        "inner-lr": "0.4; 0.1 from 20 ways on; meta-sgd, maml++, imaml 0.1, reptile 1e-3 or 5e-4",
        "inner-steps": "1; 5 from 20 ways on; anil, maml++ 5, meta-sgd 1, reptile 5 or 10, imaml 16 or 25",
        "evaluation-steps": "3; 5 from 20 ways on; anil, maml++ 5, meta-sgd 1, reptile 50, imaml 16 or 25",
    },
)
@click.pass_context
def omniglot(ctx: click.Context, /, **options: Any) -> None:
    """Learn handwritten characters from a few drawings: Conv4 with strides, transductive batch norm.

    The paper ran 60,000 iterations: --iterations 60000. With --algorithm protonet: Conv4 with
    pools, Adam's rate halved after each 2,000 episodes (arXiv 1703.05175).
    """
    classify(ctx, "omniglot", recipes.omniglot(options))


@train.command()
@click.option("--data", type=click.Path(), required=True, help="Folder or file with the images; see the README.")
@click.option("--ways", type=Whole(2), default=5, show_default=True, help="Classes in a task.")
@click.option("--channels", type=Whole(), default=32, show_default=True, help="Channels of the four convolutions.")
@click.option("--image-size", type=Whole(16), default=84, show_default=True, help="Pixels of a side, after resizing.")
@head_option
@click.option(
    "--split",
    type=Word(("files", *PUBLISHED)),
    default="files",
    show_default=True,
    help="Which classes are for training: as the files say, or a published list of names.",
)
@training_options(
    {"shots": 1, "queries": 15, "iterations": 20_000, "episodes": 600},
    {
        "tasks-per-step": "4; 2 from 5 shots on; reptile 5, maml++ 2, transfer 2 batches of 64",
        "inner-lr": "0.01; reptile 1e-3, imaml 0.1",
        "inner-steps": "5; meta-sgd 1, reptile 8, imaml 10",
        "evaluation-steps": "10; meta-sgd 1, maml++ 5, reptile 50",
    },
)
@click.pass_context
def images(ctx: click.Context, /, **options: Any) -> None:
    """Learn classes of your images from a few of each, by the paper's recipe for miniImageNet: Conv4 with max-pools.

    The paper ran 60,000 iterations: --iterations 60000.
    """
    classify(ctx, "images", recipes.images(options))


OPTIONS |= {name: command.params for name, command in train.commands.items()}


def classify(ctx: click.Context, problem: str, options: dict[str, Any]) -> None:
    """Run `options`."""
    settings = {"problem": problem} | options
    if settings["data"] is not None:
        settings["data"] = str(Path(settings["data"]).resolve())
    run(ctx, settings, problem + "-{algorithm}-{ways}way-{shots}shot-seed{seed}".format(**options))
