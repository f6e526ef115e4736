"""Option values: what a number or a word on the command line must be, and how the error reads."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import click

from fastmeta import checks
from fastmeta.learning.settings import Setting

# What Python reads as a number is more than what people mean by one: 1_2, or digits of other alphabets.
WHOLE = re.compile("[+-]?[0-9]{1,18}|[+-]?[0-9]{1,3}(_[0-9]{3}){1,5}")
REAL = re.compile(r"[+-]?(nan|inf)|[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
MOST = 10**18 - 1  # 18 digits


class Checked(click.ParamType[Any]):
    """An option value that `fastmeta.checks` judges, so that errors read the same here and in Python."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value as Python, or a usage error `<argument>=<value> must <constraint>.`"""
        if not isinstance(value, str):
            return value
        try:
            return self.parse(param.name if param and param.name else self.name, value)
        except (ValueError, TypeError) as error:
            raise click.UsageError(str(error), ctx) from error

    def parse(self, name: str, text: str) -> Any:
        """The value of `text`; ValueError or TypeError where it is not allowed."""
        raise NotImplementedError

    def check(self, name: str, value: Any) -> Any:
        """A value that is not a text, as JSON has it; raises as `parse`."""
        raise NotImplementedError


class Whole(Checked):
    """A whole number of at least `at_least`."""

    name = "number"

    def __init__(self, at_least: int = 1) -> None:
        self.at_least = at_least

    def check(self, name: str, value: Any) -> Any:
        """A number within the bounds."""
        return checks.integer(name, value, self.at_least, at_most=MOST)

    def parse(self, name: str, text: str) -> int:
        """`text` as an int; 15000 and 15_000, no comma: 1,2 are two numbers."""
        if not WHOLE.fullmatch(text):
            return checks.integer(name, text, self.at_least, "Write it as 15000.")
        return checks.integer(name, int(text), self.at_least)


class Wholes(Whole):
    """Whole numbers in rising order, as in 0,1,5,10."""

    name = "numbers"

    def check(self, name: str, value: Any) -> Any:
        """Rising numbers within the bounds."""
        if not isinstance(value, list) or value != sorted({checks.integer(name, n, self.at_least) for n in value}):
            raise ValueError(f"{name}={value!r} must be whole numbers that rise from one to the next.")
        return value

    def parse(self, name: str, text: str) -> Any:
        """`text` as a tuple of ints."""
        parts = [part.strip() for part in text.split(",")]
        if not all(WHOLE.fullmatch(part) for part in parts):
            raise ValueError(f'{name}="{text}" must be whole numbers with commas between. Write it as 0,1,5,10.')
        steps = tuple(Whole.parse(self, name, part) for part in parts)
        if list(steps) != sorted(set(steps)):
            raise ValueError(f'{name}="{text}" must rise from one number to the next. Write it as 0,1,5,10.')
        return steps


class Rate(Checked):
    """A positive number, or with `zero` also 0."""

    name = "rate"

    def __init__(self, zero: bool = False) -> None:
        self.zero = zero

    def check(self, name: str, value: Any, advice: str = "") -> float:
        """A number within the bounds."""
        return checks.not_negative(name, value, advice) if self.zero else checks.positive(name, value, advice)

    def parse(self, name: str, text: str) -> float:
        """`text` as a float."""
        if not REAL.fullmatch(text):
            return self.check(name, text, "Write it as 0.01 or 1e-2.")
        return self.check(name, float(text))


class Word(Checked):
    """One of a few words; the error suggests the nearest."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words, self.name = tuple(words), "word"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """The words, as the help shows them."""
        return "|".join(self.words)

    def parse(self, name: str, text: str) -> str:
        """`text` where it is one of the words."""
        return checks.choice(name, text, self.words)

    def check(self, name: str, value: Any) -> Any:
        """A word where it is one of them."""
        return checks.choice(name, value, self.words)


def option(name: str, setting: Setting, text: str, words: Iterable[str] = ()) -> click.Option:
    """The option of a setting; where it is not given, its value is None. Its help shows `words`, or all of them."""
    shown = name.replace("_", "-")
    flags = f"--{shown}/--no-{shown}" if setting.kind is bool else f"--{shown}"
    metavar = "|".join(words) or None
    return click.Option(
        [flags], type=_type(setting), default=None, required=setting.required, help=text, metavar=metavar
    )


def _type(setting: Setting) -> click.ParamType[Any]:
    if isinstance(setting.kind, tuple):
        return Word(setting.kind)
    kinds: dict[type, click.ParamType[Any]] = {
        int: Whole(setting.at_least),
        float: Rate(zero=setting.at_least == 0),
        tuple: Wholes(setting.at_least),
        bool: click.BOOL,
        str: click.Path(),
    }
    return kinds[setting.kind]


def use_threads(threads: int | None, device: str) -> None:
    """Let the kernels of device "cpu" use this many threads; None leaves all of them."""
    if threads is None or device != "cpu":
        return
    from fastmeta_kernels import cpu

    cpu.use_threads(threads)
