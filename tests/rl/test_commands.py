"""Commands on a run of a policy: those that work, and those that say why not and what to do."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

import fastmeta as fm
from fastmeta.cli import main


def _invoke(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "bandit"
    few = ("--iterations", 2, "--tasks-per-step", 3, "--shots", 4, "--episodes", 3, "--device", "numpy")
    result = _invoke("train", "bandit", *few, "--out", folder)
    assert result.exit_code == 0, result.output
    return folder


def test_training_logs_returns_and_evaluate_prints_them(run):
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert {"return_before", "return_after", "kl", "entropy", "accepted"} <= rows[0].keys()
    result = _invoke("evaluate", run, "--device", "numpy", "--episodes", 3)
    assert result.exit_code == 0
    assert "return" in result.output


def test_export_says_what_to_do_instead(run, tmp_path):
    for more in ((), ("--dry-run",), ("--to", "onnx")):
        result = _invoke("export", run, "--out", tmp_path / "out", *more)
        assert result.exit_code != 0
        assert "not of policies: these adapt" in result.output
        assert "model.act" in result.output
    with pytest.raises(ValueError, match=r"learner=rl\.MAML must be of samples, not of policies"):
        fm.export(fm.load(run / "checkpoint.safetensors"), str(tmp_path / "out"), samples=4)
    assert not (tmp_path / "out").exists()


def test_lab_says_where_to_look_instead(run):
    result = _invoke("lab", run)
    assert result.exit_code != 0
    assert "the instruments have no worlds" in result.output
    assert "log.jsonl" in result.output
    with pytest.raises(TypeError, match="must adapt by gradient steps on samples"):
        fm.lab.report(fm.load(run / "checkpoint.safetensors"), fm.rl.Bandit(5))
