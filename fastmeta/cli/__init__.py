"""The command line: `fastmeta train`, `evaluate`, `compare`, `check`, `export` and `lab`."""

from __future__ import annotations

import signal
from typing import Any, ClassVar

import click

import fastmeta
from fastmeta.cli.check import check
from fastmeta.cli.compare import compare
from fastmeta.cli.evaluate import evaluate
from fastmeta.cli.export import export
from fastmeta.cli.help import GroupedCommands
from fastmeta.cli.lab import lab
from fastmeta.cli.speech import say
from fastmeta.cli.train import train
from fastmeta.device import kernels_in_use
from fastmeta.learning.keeper import endings_raised
from fastmeta.ranks.joining import speaks
from fastmeta.ranks.transport import RankError
from fastmeta_kernels.contract import DeviceError

USER_ERRORS = (ValueError, OSError, ModuleNotFoundError, MemoryError, DeviceError, fastmeta.DivergenceError)


class CommandLine(GroupedCommands):
    """A group whose commands end with one line, not a traceback, where the input is to blame."""

    headings: ClassVar = {
        "Train": ("train",),
        "Look at what was learned": ("evaluate", "compare", "lab"),
        "Use it elsewhere": ("export",),
        "Check the derivatives on this machine": ("check",),
    }

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; exit code 1 for bad input, 130 for Ctrl-C, as of a shell for another signal to end."""
        with endings_raised():
            try:
                return super().invoke(ctx)
            except RankError:
                ctx.exit(1)
            except USER_ERRORS as error:
                if not speaks(error):
                    ctx.exit(1)
                raise click.ClickException(" ".join([str(error), *getattr(error, "__notes__", ())])) from error
            except KeyboardInterrupt as interrupt:
                say(str(interrupt) or "Stopped.", err=True)
                ctx.exit(128 + getattr(interrupt, "number", signal.SIGINT))


_VERSION = "Show the version and where the kernels come from, and exit."


def _version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        say(f'fastmeta, version {fastmeta.__version__}\nkernels of device="cpu": {kernels_in_use()}')
        ctx.exit()


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help=_VERSION)
def main() -> None:
    """Meta-learning without a framework: train a network so that it learns new tasks from a few samples."""


main.add_command(train)
main.add_command(evaluate)
main.add_command(compare)
main.add_command(check)
main.add_command(export)
main.add_command(lab)
