"""Data sets of few images a class from the command line, and printed commands that a shell understands."""

from __future__ import annotations

import json
import re
import shlex
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.test_cli import QUICK, invoke, process, succeed

OPTIONS = ["--ways", 2, "--image-size", 16, "--channels", 2, "--iterations", 1, "--inner-steps", 1]
OPTIONS += ["--evaluation-steps", 1, "--tasks-per-step", 1, *QUICK[:2], "--episodes", 4]


def folders(root: Path, counts: dict[str, int]) -> Path:
    """Parts with one class a name, of so many random images."""
    rng = np.random.default_rng(0)
    for part in ("train", "val", "test"):
        for name, count in counts.items():
            folder = root / part / f"{part}-{name}"
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)).save(folder / f"{i}.png")
    return root


@pytest.fixture
def ten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three classes of 10, 10 and 7 images in each part, in a folder whose name a shell would cut."""
    monkeypatch.setenv("FASTMETA_CACHE", str(tmp_path / "cache"))
    return folders(tmp_path / "my $data's images", {"ant": 10, "bee": 10, "cat": 7})


def queries(folder: Path, output: str) -> tuple[str, int | None]:
    """What the table of scores says about queries, and what the run keeps."""
    note = re.search(r"interval \(([^;)]*)", output)
    assert note
    return note[1], json.loads((folder / "config.json").read_text()).get("evaluation_queries")


def test_the_evaluation_asks_for_no_more_queries_than_there_are(ten: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    output = succeed("train", "images", "--data", ten, "--shots", 2, "--queries", 5, "--out", run, *OPTIONS)
    assert queries(run, output) == ("5 query images a class", None)  # 7 - 2
    again = succeed("evaluate", run, "--device", "numpy")
    assert "5 query images a class" in again
    assert "3 query images a class" in succeed("evaluate", run, "--evaluation-queries", 3, "--device", "numpy")
    assert "6 query images a class" in succeed("evaluate", run, "--shots", 1, "--device", "numpy")


def test_how_many_can_be_said(ten: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    some = ["--data", ten, "--shots", 1, "--queries", 5, "--evaluation-queries", 4]
    assert queries(run, succeed("train", "images", *some, "--out", run, *OPTIONS)) == ("4 query images a class", 4)
    score = json.loads((run / "score.json").read_text())["scores"][0]
    assert all((8 * value) % 1 == pytest.approx(0) for value in score["values"])  # of 2 x 4 queries


def test_classes_are_told_apart_by_name(ten: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    succeed("train", "images", "--data", ten, "--shots", 1, "--queries", 5, "--out", run, *OPTIONS)
    plain, said = (succeed("evaluate", run, "--device", "numpy", *more) for more in ([], ["--by-class"]))
    assert said.startswith(plain.rstrip())
    told = said[len(plain.rstrip()) :]
    assert "By class, 1 shots, after 1 inner steps:" in told
    assert re.search(r"^class +accuracy +episodes +samples$", told, re.MULTILINE)
    rows = re.findall(r"^test-(ant|bee|cat) +[\d.]+ % ± +[\d.]+ +(\d+) +(\d+)$", told, re.MULTILINE)
    assert sum(int(episodes) for _, episodes, _ in rows) == 8  # 4 episodes of 2 classes
    assert re.search(r"^ +test-ant  test-bee  test-cat", told, re.MULTILINE)


def test_where_there_are_no_classes_that_is_said(tmp_path: Path) -> None:
    succeed("train", "sinusoid", "--iterations", 1, "--out", tmp_path / "run", *QUICK)
    failed = invoke("evaluate", tmp_path / "run", "--by-class", "--device", "numpy")
    assert failed.exit_code == 1
    assert "must know the classes of its episodes" in failed.output


def test_with_many_images_a_class_there_are_15(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTMETA_CACHE", str(tmp_path / "cache"))
    data = folders(tmp_path / "data", {"ant": 18, "bee": 20})
    output = succeed("train", "images", "--data", data, "--queries", 5, "--out", tmp_path / "run", *OPTIONS)
    assert "15 query images a class" in output


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([], 'shots + queries=16 must be at most 7, the number of samples of class "train-cat" (2 others'),
        (["--queries", 8], 'shots + queries=9 must be at most 7, the number of samples of class "train-cat"'),
        (["--queries", 5, "--evaluation-queries", 7], 'must be at most 7, the number of samples of class "test-cat"'),
        (
            ["--queries", 5, "--shots", 7],
            'shots + queries=8 must be at most 7, the number of samples of class "test-cat"',
        ),
        (["--queries", 7, "--ways", 3, "--small-classes", "skip"], "ways=3 must be at most 2, "),
    ],
)
def test_errors_name_the_class(ten: Path, tmp_path: Path, asked: list[object], message: str) -> None:
    failed = invoke("train", "images", "--data", ten, "--out", tmp_path / "run", *OPTIONS, *asked)
    assert failed.exit_code == 1
    assert message in failed.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("kind", "note"), [("skip", "7 query images a class"), ("use", "up to 7 query")])
def test_small_classes(ten: Path, tmp_path: Path, kind: str, note: str) -> None:
    some = ["--data", ten, "--queries", 7, "--evaluation-queries", 7, "--small-classes", kind]
    output = succeed("train", "images", *some, "--out", tmp_path / "run", *OPTIONS)
    assert note in output
    assert ("Without classes that have too few images: train-cat" in output) == (kind == "skip")
    assert ("without test-cat" in output) == (kind == "skip")


@pytest.mark.parametrize(
    ("algorithm", "said"),
    [
        ("protonet", "trained with 3 ways, as there are no more"),
        ("reptile", "trained with 2 shots, as there are no more"),
        ("transfer", "images, 2-way 1-shot"),
        ("anil", "images, 2-way 1-shot"),
    ],
)
def test_every_algorithm_takes_what_there_is(ten: Path, tmp_path: Path, algorithm: str, said: str) -> None:
    own = ["--ways", 2, "--image-size", 16, "--channels", 2, "--iterations", 1, *QUICK[:2], "--episodes", 4]
    some = ["--algorithm", algorithm, "--shots", 1, "--queries", 5, "--data", ten, "--out", tmp_path / "run"]
    assert said in succeed("train", "images", *some, *own)


def test_sinusoids_too(tmp_path: Path) -> None:
    some = ["--iterations", 2, "--evaluation-queries", 7, "--out", tmp_path / "run", *QUICK]
    assert "(7 query points a task)" in succeed("train", "sinusoid", *some)
    assert "(100 query points a task)" in succeed(
        "train", "sinusoid", "--iterations", 2, "--out", tmp_path / "b", *QUICK
    )


@pytest.mark.parametrize("name", ["my run", "it's", "a;b $HOME", "50% & more", "plain"])
@pytest.mark.parametrize("problem", ["sinusoid", "images"])
def test_the_printed_command_goes_on(ten: Path, tmp_path: Path, problem: str, name: str) -> None:
    if problem == "images" and name != "my run":
        pytest.skip("one is enough: the data has such a name already")
    run = tmp_path / name
    some = ["--data", ten, "--shots", 1, "--queries", 5, *OPTIONS] if problem == "images" else QUICK
    started = process("train", problem, *some, "--iterations", 300_000, "--out", run)
    while not (run / "checkpoint.safetensors").exists() and started.poll() is None:
        time.sleep(0.05)
    started.send_signal(signal.SIGINT)
    _, told = started.communicate(timeout=60)
    words = shlex.split(told.strip().splitlines()[-1].split("Go on with: ")[1])
    where = ["--data", str(ten)] if problem == "images" else []
    assert words == ["fastmeta", "train", problem, *where, "--out", str(run), "--resume"]
    done = int(re.search(r"after iteration ([\d,]+)", told)[1].replace(",", ""))  # type: ignore[index]
    resumed = invoke(*words[1:], "--iterations", done + 1)
    assert resumed.exit_code == 0, resumed.output
    assert f"{done + 1:,} iterations in" in resumed.output
