"""The artifact on episodes, paired with its learner; the command; the walk-through on an emulated board."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import fastmeta as fm
from fastmeta.cli import main
from fastmeta.exports.compiler import compiler
from fastmeta.exports.trial import trial
from tests.exports.models import SINE, images, trained
from tests.exports.toolchains import TOOLCHAINS, execute

ROOT = Path(__file__).resolve().parent.parent.parent
needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C compiler is installed")
M4F = next(toolchain for toolchain in TOOLCHAINS if toolchain.name == "cortex-m4f")


@needs_compiler
def test_sine_curves_are_scored_as_by_the_learner(artifact):
    folder, _ = artifact("sine")
    found = trial(folder, "sine", trained("sine"), SINE, 20, seed=3)
    assert found.artifact.stream == found.original.stream
    np.testing.assert_allclose(found.artifact.values, found.original.values, rtol=1e-4)
    assert (found.artifact.values != found.original.values).any()  # other sums, so the artifact it was
    assert abs(found.difference.mean) < 1e-4


@needs_compiler
def test_frozen_statistics_and_int8_have_a_price(artifact):
    folder, report = artifact("digits_int8")
    learner = trained("digits")
    found = trial(folder, "digits_int8", learner, images(), 10, batch_norm=report.batch_norm)
    assert (found.artifact.batch_norm, found.original.batch_norm) == ("frozen", "transductive")
    frozen = learner.evaluate(images(), episodes=10, batch_norm="frozen")
    assert abs(found.artifact.mean - frozen.mean) < 0.15
    said = str(found).splitlines()
    assert said[0].startswith("accuracy on 10 episodes")
    assert [re.split(r"  +", line)[0] for line in said[1:]] == [
        "artifact, batch norm frozen",
        "learner, batch norm transductive",
        "difference, paired",
    ]


@needs_compiler
def test_more_samples_than_it_was_written_for(artifact):
    folder, _ = artifact("sine")
    with pytest.raises(ValueError, match="sine: too few or too many samples or steps"):
        trial(folder, "sine", trained("sine"), fm.tasks.Sinusoid(shots=11, queries=5), 2)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def sinusoid(tmp_path_factory) -> Path:
    """A short run of the command line."""
    folder = tmp_path_factory.mktemp("runs") / "sinusoid"
    run("train", "sinusoid", "--iterations", "60", "--episodes", "5", "--device", "numpy", "--out", folder)
    return folder


@needs_compiler
def test_the_command(sinusoid, tmp_path):
    out = tmp_path / "firmware"
    dry = run("export", sinusoid, "--out", out, "--name", "curve", "--dry-run")
    assert "7,048 bytes of RAM, what a task taught" in dry
    assert not out.exists()
    said = run("export", sinusoid, "--out", out, "--name", "curve", "--episodes", "8")
    assert said.startswith(dry)
    assert re.search(r"self-test +worst difference from float64 \d", said)
    assert re.search(r"mse on 8 episodes.*\nartifact .*\nlearner .*\ndifference, paired", said)
    assert sorted(path.name for path in out.iterdir()) == [
        "curve.c",
        "curve.h",
        "curve.json",
        "curve.py",
        "curve_test.c",
    ]
    assert json.loads((out / "curve.json").read_text())["samples"] == 10
    refused = CliRunner().invoke(main, ["export", str(sinusoid), "--out", str(out), "--name", "curve"])
    assert refused.exit_code == 1
    assert "must not hold curve.h yet" in refused.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--name", "1st"], 'name="1st" must be a word'),
        (["--to", "tflite"], 'to="tflite" must be one of'),
        (["--head", "cosine"], 'head="cosine" must be left out: MAML fits no head'),
        (["--share-head"], "share_head must be left out: MAML is not ANIL."),
        (["--ways", "5"], "ways=5 must be left out: MAML"),
        (["--batch-norm", "frozen"], "has no batch norm"),
        (["--ram", "1000"], "ram=1000 must be at least"),
    ],
)
def test_what_the_command_refuses(sinusoid, tmp_path, options, message):
    result = CliRunner().invoke(main, ["export", str(sinusoid), "--out", str(tmp_path / "out"), *options])
    assert result.exit_code != 0
    assert message in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


needs_board = pytest.mark.skipif(M4F.missing is not None, reason=f"{M4F.missing} is not installed")


def walked_through(trained: Path, folder: Path) -> None:
    """The walk-through of docs/deployment with a run: what the emulated board prints is Python's to 1e-6."""
    run("export", trained, "--out", folder, "--name", "curve")
    shutil.copy(ROOT / "docs" / "deployment" / "curve.c", folder / "main.c")
    printed = [float(line) for line in M4F.output(folder, "main.c", "curve.c").split()]
    learner = fm.load(trained / "checkpoint.safetensors", device="numpy")
    x = np.array([-4.0, -1.5, 0.5, 2.0, 4.5])[:, None]
    y = np.array([1.36, -1.80, 0.86, 1.64, -1.76])[:, None]
    expected = learner.adapt(x, y, inner_steps=10).predict(np.array([-3.0, -2.0, 0.0, 1.0, 3.0])[:, None])
    print("Cortex-M4F, emulated:", *printed)
    print("Python:              ", *(f"{value:.7f}" for value in expected.ravel()))
    np.testing.assert_allclose(printed, expected.ravel(), atol=1e-6)


@needs_board
def test_five_points_on_an_emulated_board(sinusoid, tmp_path):
    walked_through(sinusoid, tmp_path)


@needs_board
@pytest.mark.slow
def test_the_run_of_the_readme_on_an_emulated_board(tmp_path):
    run("train", "sinusoid", "--out", tmp_path / "run")
    walked_through(tmp_path / "run", tmp_path)


@needs_compiler
def test_the_walk_through_runs_here(sinusoid, tmp_path):
    run("export", sinusoid, "--out", tmp_path, "--name", "curve")
    shutil.copy(ROOT / "docs" / "deployment" / "curve.c", tmp_path / "main.c")
    execute(f"{compiler()} -std=c99 -Wall -Wextra -Werror main.c curve.c -o main -lm", tmp_path)
    assert len(execute("./main", tmp_path).split()) == 5
