"""What the command line says. Where nobody listens any more, a closed pipe or terminal, the work goes on."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

import click

GONE = (errno.EPIPE, errno.EIO)  # the reader of the pipe, the terminal


_heard: list[Callable[[], bool]] = []


def heard_where(first: Callable[[], bool]) -> None:
    """From here on this process says something only where `first` says so: of many ranks one speaks."""
    _heard[:] = [first]


def say(text: str, err: bool = False) -> None:
    """Print a line, on standard error with `err`; OSError, which names it, where for example its disk is full."""
    if not all(heard() for heard in _heard):
        return
    try:
        click.echo(text, err=err)
    except OSError as error:
        if error.errno not in GONE:
            raise OSError(error.errno, error.strerror, f"standard {'error' if err else 'output'}") from error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, (sys.stderr if err else sys.stdout).fileno())
        os.close(nowhere)


def is_watched() -> bool:
    """Whether standard error is a terminal; a program that was started without one has None."""
    return sys.stderr is not None and sys.stderr.isatty()
