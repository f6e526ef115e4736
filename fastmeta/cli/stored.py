"""Settings that a run stored: each one is known, of its type and within its bounds, before anything is done by them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from fastmeta import checks
from fastmeta.cli.options import Checked

LARGEST = 1 << 28  # bytes of a JSON file
NOT_STORED = ("out", "resume", "threads", "ranks")
OPTIONS: dict[str, list[click.Parameter]] = {}  # of each problem, filled by `fastmeta train`
NEEDED = ("problem", "algorithm", "shots", "iterations", "episodes", "seed")  # of every run


class Stored(dict[str, Any]):
    """Settings by name; one that is asked for and not there is a ValueError that names the file."""

    def __init__(self, settings: dict[str, Any], path: Path) -> None:
        super().__init__(settings)
        self.path = path

    def __missing__(self, name: str) -> Any:
        raise ValueError(f"{self.path} must hold {name}. Restore it or start a new run.")

    def updated(self, settings: dict[str, Any]) -> Stored:
        """These settings with some replaced."""
        return Stored({**self, **settings}, self.path)


def parsed(path: Path) -> Any:
    """A JSON object in a file; ValueError where it is none."""
    size = path.stat().st_size
    if size > LARGEST:
        raise ValueError(f"{path} must be at most {LARGEST >> 20} MiB, not {size >> 20}. Restore it.")
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} must be JSON: {error}. Restore it or start a new run.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must be an object, with names and values. Restore it or start a new run.")
    return content


def checked(path: Path, settings: dict[str, Any]) -> Stored:
    """Settings that `fastmeta train` could have stored; ValueError, naming the file and the setting, otherwise.

    Older runs stored null for what was not set.
    """
    settings = {name: value for name, value in settings.items() if value is not None}
    try:
        for name in NEEDED:
            if name not in settings:
                raise ValueError(f"{name} is missing.")
        problem = checks.choice("problem", settings["problem"], OPTIONS)
        known = {str(option.name): option for option in OPTIONS[problem] if option.name not in NOT_STORED}
        for name, value in settings.items():
            if name not in ("fastmeta", "problem"):
                _check(known[checks.choice("setting", name, known)], value)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} must hold settings that this fastmeta knows: {error} Restore it or start a new run."
        ) from error
    return Stored(settings, path)


def _check(option: click.Parameter, value: Any) -> None:
    name, kind = str(option.name), option.type
    if isinstance(kind, Checked):
        kind.check(name, value)
    elif not isinstance(value, bool if isinstance(kind, click.types.BoolParamType) else str):
        raise TypeError(f"{name}={value!r} must be {'true or false' if kind.name == 'boolean' else 'a text'}.")
