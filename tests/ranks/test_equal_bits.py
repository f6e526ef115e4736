"""Training and evaluation give the same bits on any number of ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.ranks.launching import MPIEXEC, needs_mpi, program, results, started
from tests.ranks.program import TRAINED

pytestmark = needs_mpi


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], Path]:
    """Every learner on one rank."""
    folder = tmp_path_factory.mktemp("alone")
    (said,) = results(program(1, folder, learners=list(TRAINED), keep=True), folder)
    return said, folder


@pytest.mark.parametrize("ranks", [2, 3, 4, 7])
def test_every_learner_has_the_same_bits_on_any_number_of_ranks(ranks, alone, tmp_path):
    found = results(program(ranks, tmp_path, learners=list(TRAINED)), tmp_path)
    assert len(found) == ranks
    assert all(said == alone[0] for said in found)


def test_ranks_change_a_fit_by_rounding_only(alone):
    for name, trained in TRAINED.items():
        learner, tasks = trained("numpy")
        learner.fit(tasks, 4, tasks_per_step=25, seed=3)
        with np.load(alone[1] / f"{name}.npz") as found:
            for key, values in learner.parameters.items():
                np.testing.assert_allclose(found[key], values, rtol=2e-3, atol=2e-5, err_msg=f"{name} {key}")


def test_kernels_have_the_same_bits_on_any_number_of_ranks(tmp_path):
    learners = ["MAML", "stepwise MAMLPlusPlus", "Reptile", "ProtoNet"]
    found = []
    for ranks in (1, 2, 7):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        found += results(program(ranks, folder, device="cpu", learners=learners), folder, 600)
    assert len(found) == 10
    assert all(said == found[0] for said in found)


def test_a_run_goes_on_with_another_number_of_ranks(tmp_path):
    file = str(tmp_path / "checkpoint.safetensors")
    whole = program(2, tmp_path, iterations=6)
    (expected, _) = results(whole, tmp_path)
    results(program(3, tmp_path, iterations=3, fit={"checkpoint": file}), tmp_path)
    found = results(program(2, tmp_path, iterations=6, fit={"checkpoint": file, "resume": True}), tmp_path)
    assert found[:2] == [expected, expected]


def test_validation_and_its_patience_end_all_ranks_alike(tmp_path):
    fit = {"validate_every": 1, "validation_episodes": 4, "patience": 1}
    found = []
    for ranks in (1, 3):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        found += results(program(ranks, folder, learners=["MAML", "ANIL"], iterations=12, fit=fit), folder)
    assert len(found) == 4
    assert all(said == found[0] for said in found)


def test_more_ranks_than_parts_of_an_evaluation_give_its_score(tmp_path):
    found = []
    for ranks in (1, 3):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        asked = {"episodes": 5, "tasks_per_step": 4}
        found += results(program(ranks, folder, learners=["MAML", "MAMLPlusPlus"], evaluate=asked), folder)
    assert len(found) == 4
    assert all(said == found[0] for said in found)


def test_the_command_line_trains_on_ranks(tmp_path):
    arguments = ["--device", "numpy", "--episodes", 8, "--iterations", 6]
    said, logs = [], []
    for ranks in (2, 3):
        out = tmp_path / str(ranks)
        run = started(ranks, MPIEXEC.with_name("fastmeta"), "train", "sinusoid", *arguments, "--out", out)
        text, _ = run.communicate(timeout=120)
        assert run.returncode == 0, text
        assert text.count("6 iterations in") == 1
        said.append([line for line in text.splitlines() if line.strip().startswith(("10 ", "5 ", "episode"))])
        logs.append((out / "log.jsonl").read_text())
        assert not (out / "run.lock").exists()
    assert said[0] == said[1]
    assert len(said[0]) == 3
    assert logs[0] == logs[1]
