"""What happens to a job of which one rank is killed, fails, or differs from the others."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from fastmeta.learning import checkpoint as checkpoints
from tests.ranks.launching import kept, needs_mpi, program, results

pytestmark = needs_mpi
SLOW = {"slow": 0.02, "iterations": 40}


def wait_until(happened: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)


def kill(folder: Path, rank: int, number: int = signal.SIGKILL) -> None:
    os.kill(int((folder / f"pid-{rank}").read_text()), number)


def ended(run: subprocess.Popen[str]) -> str:
    """What a job said; it is stopped if its launcher does not end when its ranks have."""
    try:
        return run.communicate(timeout=10)[0]
    except subprocess.TimeoutExpired:
        run.kill()
        return run.communicate()[0]


def survived(folder: Path, ranks: int, victim: int, delay: float, **given: Any) -> list[Any]:
    """What is kept by those that are left when a rank is killed `delay` seconds after all have started."""
    folder.mkdir()
    run = program(ranks, folder, "--with-ft", "ulfm", **SLOW, **given)
    try:
        wait_until(lambda: all((folder / f"pid-{rank}").exists() for rank in range(ranks)))
        time.sleep(delay)
        kill(folder, victim)
        wait_until(lambda: len(kept(folder)) == ranks - 1 or run.poll() is not None)
    finally:
        said = ended(run)
        print(said)
    assert f"1 of {ranks} ranks were lost; {ranks - 1} go on" in said
    return kept(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a job is to end with, whoever is killed."""
    folder = tmp_path_factory.mktemp("whole")
    first, second = results(program(2, folder, **SLOW), folder)
    assert first == second
    return first


@pytest.mark.slow  # of some 35 kills one left the others waiting: see docs/ranks.md
def test_a_killed_rank_is_survived_with_the_same_bits(whole, tmp_path):
    file = str(tmp_path / "checkpoint.safetensors")
    found = survived(tmp_path / "first", 3, 0, 0.5, fit={"checkpoint": file})  # the one that writes
    assert found == [whole, whole]
    assert checkpoints.read(file).training.step == SLOW["iterations"]


@pytest.mark.slow
def test_ten_kills_at_random_moments_are_survived(whole, tmp_path):
    rng = random.Random(0)
    for i in range(10):
        victim, delay = rng.randrange(4), rng.uniform(0, 1.2)
        found = survived(tmp_path / str(i), 4, victim, delay)
        print(f"rank {victim} of 4 killed after {delay:.2f} s: {found.count(whole)} of 3 have the same bits")
        assert found == [whole] * 3


def test_without_ulfm_the_job_ends_and_its_checkpoint_goes_on_with_other_ranks(whole, tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    run = program(3, tmp_path, **SLOW, fit={"checkpoint": str(file), "checkpoint_every": 2})
    wait_until(file.exists)
    kill(tmp_path, 1)
    said, _ = run.communicate(timeout=30)
    assert run.returncode != 0
    assert "killed" in said.lower()
    assert 0 < checkpoints.read(file).training.step < SLOW["iterations"]
    found = results(program(2, tmp_path, iterations=40, fit={"checkpoint": str(file), "resume": True}), tmp_path)
    assert found[:2] == [whole, whole]


def test_a_rank_that_raises_ends_all_within_10_seconds(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    run = program(3, tmp_path, **SLOW, fails=[2, 5], fit={"checkpoint": str(file)})
    wait_until(file.exists)
    begin = time.monotonic()
    said, _ = run.communicate(timeout=60)
    assert time.monotonic() - begin < 10
    assert run.returncode != 0
    assert "ValueError: these tasks are broken." in said
    assert "RankError: rank 2 of 3 failed: ValueError: these tasks are broken." in said
    assert checkpoints.read(file).training.step == 5


def test_a_signal_to_end_ends_all_and_keeps_the_last_iteration(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    run = program(2, tmp_path, slow=0.02, iterations=10_000, fit={"checkpoint": str(file)})
    wait_until(file.exists)
    kill(tmp_path, 1, signal.SIGTERM)  # one of them alone
    said, _ = run.communicate(timeout=30)
    assert run.returncode != 0
    step = checkpoints.read(file).training.step
    assert f"holds iteration {step:,}" in said


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fit": {"tasks_per_step": 1}}, "ranks=2 must be at most 1, the blocks that tasks_per_step=1 tasks"),
        ({"fit of rank 1": {"seed": 4}}, "seed=4 of rank 1 must be 3, as of rank 0."),
        ({"fit of rank 1": {"tasks_per_step": 0}}, "tasks_per_step=0 must be at least 1"),
        ({"fit of rank 0": {"resume": True}}, "resume=True must come with a checkpoint"),
    ],
)
def test_ranks_that_cannot_work_together_say_so(given, message, tmp_path):
    run = program(2, tmp_path, **given)
    said, _ = run.communicate(timeout=60)
    assert run.returncode != 0
    assert message in said


def test_a_folder_that_is_not_shared_is_refused(tmp_path):
    places = [str(tmp_path / name / "checkpoint.safetensors") for name in ("here", "there")]
    run = program(2, tmp_path, fit={"checkpoint": places[0]}, **{"fit of rank 1": {"checkpoint": places[1]}})
    said, _ = run.communicate(timeout=60)
    assert "must be in a folder that all ranks share; rank 1 does not see what rank 0 wrote" in said
    assert not any((tmp_path / "here").iterdir())
