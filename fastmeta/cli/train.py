"""`fastmeta train`: a command of each problem, with an option of each setting."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, ClassVar

import click

from fastmeta.cli.algorithms import ALGORITHMS
from fastmeta.cli.help import GroupedCommands, GroupedOptions
from fastmeta.cli.options import Whole, option
from fastmeta.cli.problems import PROBLEMS
from fastmeta.cli.problems.problem import Problem
from fastmeta.cli.recipes import applying, unsaid_in_words
from fastmeta.cli.run import run
from fastmeta.cli.stored import OPTIONS
from fastmeta.cli.together import ranks_option, together
from fastmeta.learning.settings import Setting, arguments


class Problems(GroupedCommands):
    """The problems, by what their tasks give."""

    headings: ClassVar = {
        "From samples with labels or targets": tuple(name for name, kind in PROBLEMS.items() if kind.has_targets),
        "From rewards": tuple(name for name, kind in PROBLEMS.items() if not kind.has_targets),
    }


@click.group(cls=Problems, short_help=f"Train a learner: {', '.join(PROBLEMS)}.")
def train() -> None:
    """Train a learner; the defaults are the MAML paper's recipes (arXiv 1703.03400)."""


def command(problem: type[Problem]) -> click.Command:
    """The command that trains on a problem."""

    def start(out: str | None, resume: bool, threads: int | None, ranks: str | None, **options: Any) -> None:
        given = {name: value for name, value in options.items() if value is not None}
        for name in given.keys() & {"data", "start"}:
            given[name] = str(Path(given[name]).resolve())
        with together(ranks, given.get("device", "cpu")):
            run(problem, given, out, resume, threads, ranks)

    own = {name for algorithm in ALGORITHMS.values() for name in arguments(algorithm)}
    explained = {"params": _options(problem), "help": inspect.getdoc(problem)}
    return GroupedOptions(problem.name, callback=start, of_algorithms=own, **explained)


def _options(problem: type[Problem]) -> list[click.Parameter]:
    owners: dict[str, list[str]] = {}
    settings: dict[str, Setting] = {}
    for word, algorithm in ALGORITHMS.items():
        if problem.suits(algorithm):
            for name, setting in applying(problem, algorithm).items():
                settings.setdefault(name, setting)
                owners.setdefault(name, []).append(word)
    everybody = owners["algorithm"]
    made: list[click.Parameter] = []
    for name, setting in settings.items():
        of, others = owners[name], [word for word in everybody if word not in owners[name]]
        whose = f"all but {', '.join(others)}" if len(others) < len(of) else ", ".join(of)
        unsaid = unsaid_in_words(problem, name)
        text = setting.text.rstrip(".") + f" ({whose})." if others else setting.text
        words = everybody if name == "algorithm" else ()  # others are known, and refused with the reason
        made.append(option(name, setting, f"{text}  [default: {unsaid}]" if unsaid else text, words))
    return [
        *made,
        click.Option(["--threads"], type=Whole(), help="Threads of the cpu device.  [default: all cores]"),
        ranks_option(),
        click.Option(
            ["--out"],
            type=click.Path(file_okay=False),
            help="Folder of the run.  [default: runs/ and the run's name]",
        ),
        click.Option(
            ["--resume"],
            is_flag=True,
            help="Go on with the run in that folder, to the same bits as if it had never stopped.",
        ),
    ]


for kind in PROBLEMS.values():
    train.add_command(command(kind))
OPTIONS |= {name: made.params for name, made in train.commands.items()}
