"""What README.md says: its program prints what it shows, its commands are those that are checked."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

import fastmeta as fm
from fastmeta.cli import main
from fastmeta.cli.algorithms import ALGORITHMS
from fastmeta.learning.learner import Learner

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = ("start/first.md", "howto/compare.md", "tutorials/images.md", "tutorials/omniglot.md", "tutorials/sinusoid.md")
SITE = README + "".join((ROOT / "docs" / page).read_text("utf-8") for page in PAGES)
CI = (ROOT / ".ci" / "run").read_text("utf-8")
PUBLIC = [getattr(fm, name) for name in fm.__all__]
LEARNERS = {
    kind.__name__
    for kind in PUBLIC
    if isinstance(kind, type) and issubclass(kind, Learner) and not inspect.isabstract(kind)
}
NUMBER = re.compile(r"\d+\.\d+")
SCORE_TOLERANCE = {"rel": 0.2, "abs": 0.02}  # README: another processor can move a score by a tenth


def section(title: str) -> str:
    """Everything below a heading."""
    return README.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run(program: str, folder: Path) -> str:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_program_prints_what_is_shown(tmp_path):
    text = section("A short program")
    (program,), (shown,) = blocks(text, "python"), blocks(text, "text")
    printed = run(program, tmp_path)
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", shown)
    mine, theirs = ([float(n) for n in NUMBER.findall(output)] for output in (printed, shown))
    assert mine == pytest.approx(theirs, **SCORE_TOLERANCE)


def test_the_program_for_own_data_runs(tmp_path):
    (program,) = blocks((ROOT / "docs" / "start" / "data.md").read_text("utf-8"), "python")
    accuracy, shapes = run(program, tmp_path).splitlines()
    assert float(accuracy.removeprefix("accuracy: ")) > 0.4  # chance is 0.2
    assert "'linear1.weight': (8, 32)" in shapes


def test_the_kernels_program_runs(tmp_path):
    (program,) = blocks((ROOT / "kernels" / "README.md").read_text("utf-8"), "python")
    assert run(program + "print(gradients.shape)", tmp_path) == "(4, 8)\n"


def test_the_program_for_a_new_algorithm_runs(tmp_path):
    (program,) = blocks((ROOT / "docs" / "algorithms.md").read_text("utf-8"), "python")
    learner, scores = run(program, tmp_path).splitlines()
    assert learner == "Pretrained(MLP(sizes=(1, 40, 40, 1)), inner_lr=0.01, inner_steps=1)"
    before, *_, after = (float(n) for n in re.findall(r"mse (\d+\.\d+)", scores))
    assert after < before


def test_the_program_of_the_laboratory_prints_what_is_shown(tmp_path):
    text = (ROOT / "docs" / "laboratory.md").read_text("utf-8")
    (program,), (shown,) = blocks(text, "python"), blocks(text, "text")
    printed = run(program, tmp_path).splitlines()
    expected = shown.splitlines()
    assert [line.split()[0] for line in printed] == [line.split()[0] for line in expected]
    first, last = ([float(n) for n in NUMBER.findall(lines[0])] for lines in (printed, expected))
    assert first == pytest.approx(last, abs=0.02)  # before any training has carried rounding along


def test_the_programs_of_searching_print_what_is_shown(tmp_path):
    text = (ROOT / "docs" / "searching.md").read_text("utf-8")
    for program, shown in zip(blocks(text, "python"), blocks(text, "text"), strict=True):
        printed = run(program, tmp_path)
        assert NUMBER.sub("", printed) == NUMBER.sub("", shown)
        found, expected = ([float(n) for n in NUMBER.findall(lines)] for lines in (printed, shown))
        assert found == pytest.approx(expected, rel=0.1, abs=3)


def test_the_programs_of_reinforcement_learning_run(tmp_path):
    text = (ROOT / "docs" / "reinforcement.md").read_text("utf-8")
    for program, shown in zip(blocks(text, "python"), blocks(text, "text"), strict=True):
        printed = run(program, tmp_path)
        assert NUMBER.sub("", printed) == NUMBER.sub("", shown)
        found, expected = ([float(n) for n in NUMBER.findall(lines)] for lines in (printed, shown))
        assert found == pytest.approx(expected, rel=0.1, abs=1)


def test_the_page_of_algorithms_has_a_row_for_each():
    text = (ROOT / "docs" / "algorithms.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (?:`([a-z0-9+-]+)`|Python only) \| ", text, re.MULTILINE))
    assert rows == dict.fromkeys(LEARNERS, "") | {
        kind.__name__: word for word, kind in ALGORITHMS.items() if kind.network_outputs != "policy"
    }


def test_the_test_command_is_what_ci_runs():
    commands = [line for block in blocks(README, "bash") for line in block.splitlines()]
    (tests,) = [line.split(" && ")[-1] for line in commands if "pytest" in line]
    assert tests.removeprefix(".venv/bin/") in CI
    assert "set -euo pipefail" in CI
    for tool in ("ruff format --check", "ruff check", "mypy"):
        assert tool in CI


def test_an_interpreter_that_cannot_be_had_is_skipped_by_name(tmp_path):
    environment = os.environ | {"FASTMETA_CHROOTS": str(tmp_path)}
    command = ["bash", str(ROOT / ".ci" / "interpreters"), "2.0"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "== 2.0: skipped: it is not installed, and no Debian suite has it\n"


def test_the_commands_install_extras_that_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names = re.findall(r'"(?:fastmeta)?\.?\[([a-z0-9,]+)\]"', README + CI)
    assert {extra for name in names for extra in name.split(",")} <= set(project["optional-dependencies"])
    assert names


@pytest.mark.parametrize(
    "line", sorted(set(re.findall(r"fastmeta (?:check|train|evaluate|compare|export) ?[^\n`]+", SITE)))
)
def test_every_command_in_it_is_understood(line):
    """Click parses each line whole: every option, value and folder; nothing runs."""
    parse(shlex.split(line.split("#")[0].split("&&")[0])[1:])


@pytest.mark.parametrize(
    "line",
    ["train omniglot --way 20", "train omniglot --algorithm ani", "evaluate runs/x --episodes ten", "compare", "chec"],
)
def test_a_command_that_is_not_understood_is_noticed(line):
    with pytest.raises(click.UsageError):
        parse(line.split())


def parse(words: list[str]) -> None:
    """Read a command line as `fastmeta` does; click.UsageError where it is no command."""
    command, context = main, click.Context(main, info_name="fastmeta")
    while isinstance(command, click.Group):
        name, command, words = command.resolve_command(context, words)
        context = click.Context(command, context, name)
    command.parse_args(context, words)


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "kernels/README.md",
        "kernels/mathematics.md",
        "docs/algorithms.md",
        "docs/laboratory.md",
        "docs/ranks.md",
        "docs/reinforcement.md",
        "docs/searching.md",
        "docs/deployment/README.md",
    ],
)
def test_links_lead_somewhere(name):
    path = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text("utf-8")):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_it_is_short():
    assert README.count("\n") <= 150


def test_nothing_is_left_to_fill_in():
    assert "TO BE FILLED" not in README
