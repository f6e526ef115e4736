"""Numbers on the command line mean what they say, in every option, or are refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import pytest

from fastmeta.cli import main
from fastmeta.cli.options import Rate, Whole, Wholes
from tests.cli.test_cli import invoke


def options(group: click.Group) -> Iterator[tuple[str, click.Option]]:
    """Every option of every command below a group."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", option) for inner, option in options(command))
        else:
            yield from ((name, p) for p in command.params if isinstance(p, click.Option))


NUMBERS = [(command, o) for command, o in options(main) if isinstance(o.type, Whole | Rate)]
NO_NUMBERS = (
    "1_0",
    "\uff11",
    "\u00b2",
    "\u0663",
    "_1",
    "1_",
    "1__000",
    "1;2",
    "[1]",
    "1 2",
    "",
    " ",
    "0x10",
    "1e",
    "--3",
    "one",
    "1,,2",
)
NO_WHOLE = (*NO_NUMBERS, "1,2", "1,000", "1e3", "1.0", "nan", "inf", "1_000.0")
NO_RATE = (*NO_NUMBERS, "1,5", "0,1", "1e999", "-1", "nan", "inf", "-inf", "NaN", "1_000", "1.2.3", "1d3")


def parsed(kind: Any, text: str) -> Any:
    return kind.convert(text, click.Option(["--some"]), None)


@pytest.mark.parametrize(("command", "option"), NUMBERS, ids=[f"{c} {o.opts[0]}" for c, o in NUMBERS])
def test_no_option_takes_what_is_no_number(command: str, option: click.Option) -> None:
    wrong = {Whole: NO_WHOLE, Rate: NO_RATE, Wholes: NO_NUMBERS}[type(option.type)]
    for text in wrong:
        with pytest.raises(click.UsageError, match=rf'(?s)^{option.name}=.* must |{option.name}="{text}"'):
            option.type.convert(text, option, None)


def test_every_number_is_one_of_the_three_kinds() -> None:
    assert {type(o.type) for _, o in NUMBERS} == {Whole, Wholes, Rate}
    assert len(NUMBERS) > 60
    for command, option in options(main):
        assert not isinstance(option.type, click.types.IntParamType | click.types.FloatParamType), (
            command,
            option.opts,
        )


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Whole(), "12", 12),
        (Whole(), "+12", 12),
        (Whole(), "15_000", 15_000),
        (Whole(), "1_000_000", 1_000_000),
        (Whole(0), "0", 0),
        (Whole(0), "007", 7),
        (Wholes(0), "1,2", (1, 2)),
        (Wholes(0), "0, 1 ,5,10", (0, 1, 5, 10)),
        (Wholes(0), "5", (5,)),
        (Wholes(0), "1,1_000", (1, 1000)),
        (Rate(), "0.5", 0.5),
        (Rate(), ".5", 0.5),
        (Rate(), "5.", 5.0),
        (Rate(), "1e-3", 1e-3),
        (Rate(), "2E2", 200.0),
        (Rate(zero=True), "0", 0.0),
    ],
)
def test_numbers_have_their_value(kind: Any, text: str, value: object) -> None:
    found = parsed(kind, text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (Whole(), "1,2", 'some="1,2" must be a whole number. Write it as 15000.'),
        (Whole(), "0", "some=0 must be at least 1."),
        (Whole(), "9" * 5000, "must be a whole number"),
        (Wholes(0), "1,,2", 'some="1,,2" must be whole numbers with commas between. Write it as 0,1,5,10.'),
        (Wholes(0), "1,2,", "must be whole numbers with commas between"),
        (Wholes(0), "2,1", "must rise from one number to the next"),
        (Wholes(0), "1,000", "must rise from one number to the next"),
        (Rate(), "0,1", 'some="0,1" must be a number. Write it as 0.01 or 1e-2.'),
        (Rate(), "nan", "some=nan must be finite."),
        (Rate(), "1e-999", "some=0.0 must be positive."),
    ],
)
def test_errors_say_how_to_write_it(kind: Any, text: str, message: str) -> None:
    with pytest.raises(click.UsageError) as error:
        parsed(kind, text)
    assert message in str(error.value)


def test_a_list_is_no_number_of_inner_steps(tmp_path: Any) -> None:
    failed = invoke("train", "sinusoid", "--inner-steps", "1,2", "--out", tmp_path / "run")
    assert failed.exit_code == 2
    assert 'inner_steps="1,2" must be a whole number' in failed.output
    assert not (tmp_path / "run").exists()
