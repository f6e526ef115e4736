"""A command on many ranks: which they are, that one of them speaks, and how an error reads once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from fastmeta.cli.options import Word
from fastmeta.cli.speech import heard_where
from fastmeta.ranks.joining import on_ranks
from fastmeta.ranks.launch import RANKS, joint


def ranks_option() -> click.Option:
    """Whether the processes that a launcher started do one piece of work; the value is None where they do not."""

    def meant(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
        return value if value in RANKS else None if value else joint()

    text = "Whether the processes that mpiexec started work together.  [default: mpi where it started several]"
    return click.Option(["--ranks"], type=Word((*RANKS, "none")), callback=meant, help=text)


@contextmanager
def together(ranks: str | None, device: str) -> Iterator[None]:
    """Work within on these ranks, of which the first speaks."""
    with on_ranks(ranks, device) as group:
        if group is not None:
            heard_where(lambda: group.first)
        yield
