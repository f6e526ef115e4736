"""What happens to a job of which one rank is killed, fails, or differs from the others."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fastmeta.learning import checkpoint as checkpoints
from tests.ranks.launching import kept, needs_mpi, output, program, results

pytestmark = needs_mpi
SLOW = {"slow": 0.02, "iterations": 40}
LONG = {"slow": 0.02, "iterations": 150}


def wait_until(happened: Any, seconds: float = 120) -> None:
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


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a job is to end with, whoever is killed."""
    folder = tmp_path_factory.mktemp("whole")
    first, second = results(program(2, folder, **SLOW), folder)
    assert first == second
    return first


def survived(folder: Path, ranks: int, kills: int, rng: random.Random, **given: Any) -> list[Any]:
    """What is kept by those that are left when ranks are killed at random moments, each when the one before is over."""
    folder.mkdir()
    said, living = folder / "said", list(range(ranks))
    with said.open("w") as file:
        run = program(ranks, folder, "--with-ft", "ulfm", **LONG, **given, stdout=file)
    try:
        wait_until(lambda: all((folder / f"pid-{rank}").exists() for rank in range(ranks)))
        for i in range(kills):
            time.sleep(rng.uniform(0, 1))
            victim = 0 if i == 0 else rng.choice(living)  # first the one that writes
            kill(folder, victim)
            living.remove(victim)
            lost = f"1 of {len(living) + 1} ranks were lost; {len(living)} go on, to the same bits."
            wait_until(lambda lost=lost: lost in said.read_text() or run.poll() is not None)
            assert lost in said.read_text(), said.read_text()
        wait_until(lambda: len(kept(folder)) == len(living) or run.poll() is not None)
    finally:
        ended(run)
    return kept(folder)


def test_ten_kills_at_random_moments_are_survived_with_the_same_bits(tmp_path):
    whole, jobs = tmp_path / "whole", ((4, 3), (5, 3), (6, 4))  # ranks, and how many of them are killed
    whole.mkdir()
    (expected,) = results(program(1, whole, iterations=LONG["iterations"]), whole)
    files = [tmp_path / f"{ranks}.safetensors" for ranks, _ in jobs]
    with ThreadPoolExecutor() as at_once:
        started = [
            at_once.submit(survived, tmp_path / str(n), n, kills, random.Random(n), fit={"checkpoint": str(file)})
            for (n, kills), file in zip(jobs, files, strict=True)
        ]
        found = [job.result() for job in started]
    for (ranks, kills), left, file in zip(jobs, found, files, strict=True):
        print(f"{kills} of {ranks} ranks killed: {left.count(expected)} of {ranks - kills} left have the same bits")
        assert left == [expected] * (ranks - kills)
        assert checkpoints.read(file).training.step == LONG["iterations"]


def test_without_ulfm_the_job_ends_and_its_checkpoint_goes_on_with_other_ranks(whole, tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    run = program(3, tmp_path, **SLOW, fit={"checkpoint": str(file), "checkpoint_every": 2})
    wait_until(file.exists)
    kill(tmp_path, 1)
    said = output(run, 30)
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
    said = output(run, 60)
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
    said = output(run, 30)
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
        ({"fit of rank 1": {"validate_every": 2}}, "validate_every=2 of rank 1 must be nothing, as of rank 0."),
        ({"fit of rank 1": {"checkpoint": "a.safetensors"}}, "checkpoint is given on rank 1 and not on rank 0."),
        (
            {"fit": {"validate_every": 1, "patience": 2}, "fit of rank 1": {"patience": 1}},
            "patience=1 of rank 1 must be 2, as of rank 0.",
        ),
        ({"device of rank 1": "cpu"}, "device=cpu of rank 1 must be numpy, as of rank 0."),
        ({"callback": "evaluate"}, 'ranks="mpi" must be left out in a callback, where the first rank is alone.'),
        ({"breaks": 1}, "ValueError: this program is broken."),
        ({"evaluate of rank 1": {"episodes": 0}}, "episodes=0 must be at least 1"),
        ({"evaluate of rank 1": {"tasks_per_step": 4}}, "tasks_per_step=4 of rank 1 must be 3, as of rank 0."),
        ({"moves": 1}, "must run the same program on the same data: learner="),
        ({"learners": ["MAMLPlusPlus"], "unsent": 1}, "local object"),
    ],
)
def test_ranks_that_cannot_work_together_say_so(given, message, tmp_path):
    run = program(2, tmp_path, **given)
    said = output(run, 60)
    assert run.returncode != 0
    assert message in said
    assert not kept(tmp_path)


def test_a_rank_that_is_told_twice_to_end_ends_all(tmp_path):
    run = program(2, tmp_path, slow=0.5, iterations=10_000)
    wait_until(lambda: all((tmp_path / f"pid-{rank}").exists() for rank in range(2)))
    time.sleep(1)
    for _ in range(2):
        kill(tmp_path, 1, signal.SIGINT)
        time.sleep(0.05)
    assert "KeyboardInterrupt" in output(run, 30)
    assert run.returncode != 0


def test_a_folder_that_is_not_shared_is_refused(tmp_path):
    places = [str(tmp_path / name / "checkpoint.safetensors") for name in ("here", "there")]
    run = program(2, tmp_path, fit={"checkpoint": places[0]}, **{"fit of rank 1": {"checkpoint": places[1]}})
    said = output(run, 60)
    assert "must be in a folder that all ranks share; rank 1 does not see what rank 0 wrote" in said
    assert not any((tmp_path / "here").iterdir())
