"""What --help shows, in groups: commands by what they are for, options by what they decide."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import click

EVALUATION = ("episodes", "batch_norm")  # and whatever begins with evaluation_
TRAINING = (
    "iterations",
    "tasks_per_step",
    "learning_rate",
    "final_learning_rate",
    "validate_every",
    "patience",
    "start",
    "seed",
)
RUN = ("device", "threads", "ranks", "out", "resume", "help")
OPTIONS = ("Algorithm", "Tasks", "Training", "Evaluation", "Run")  # groups, in this order


def option_group(name: str, of_algorithms: Iterable[str]) -> str:
    """Which of OPTIONS a setting of a run stands under; what is not known elsewhere is of its tasks."""
    if name == "algorithm" or name in of_algorithms:
        return "Algorithm"
    if name in EVALUATION or name.startswith("evaluation_"):
        return "Evaluation"
    return "Training" if name in TRAINING else "Run" if name in RUN else "Tasks"


class GroupedOptions(click.Command):
    """A command whose options stand in groups; `of_algorithms` names the arguments of algorithms among them."""

    def __init__(self, *arguments: Any, of_algorithms: Iterable[str], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.of_algorithms = tuple(of_algorithms)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write them."""
        groups: dict[str, list[tuple[str, str]]] = {group: [] for group in OPTIONS}
        for option in self.get_params(ctx):
            if (record := option.get_help_record(ctx)) is not None:
                name = "help" if "--help" in option.opts else str(option.name)
                groups[option_group(name, self.of_algorithms)].append(record)
        for group, records in groups.items():
            if records:
                with formatter.section(f"{group} options"):
                    formatter.write_dl(records)


class GroupedCommands(click.Group):
    """A group of commands that stand under headings: `headings` says which under which, others come last."""

    headings: ClassVar[dict[str, tuple[str, ...]]] = {}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write them."""
        listed = {name for names in self.headings.values() for name in names}
        rest = tuple(name for name in self.list_commands(ctx) if name not in listed)
        for heading, names in {**self.headings, "Further": rest}.items():
            found = [(name, command) for name in names if (command := self.get_command(ctx, name)) is not None]
            if found:
                width = formatter.width - 6 - max(map(len, self.commands))
                with formatter.section(heading):
                    formatter.write_dl([(name, command.get_short_help_str(width)) for name, command in found])
