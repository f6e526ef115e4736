"""Ranks with a GPU each, none of which is there: what they add up by NCCL has the bits of what MPI adds up."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from fastmeta_kernels.contract import DeviceError
from fastmeta_kernels.cuda.machine import machine
from tests.ranks.launching import kept, needs_mpi, output, program, results

pytestmark = [
    needs_mpi,
    pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler stands for CUDA's"),
]
LEARNERS = ["MAML", "MetaSGD", "Reptile", "ProtoNet"]
ITERATIONS = 4


@pytest.fixture(scope="module")
def kernels(pytestconfig: pytest.Config) -> str:
    """Where compiled kernels are kept."""
    return str(pytestconfig.cache.mkdir("cuda_on_cpu"))


@pytest.fixture(scope="module")
def alone(kernels: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What one rank learns, without NCCL."""
    folder = tmp_path_factory.mktemp("alone")
    (said,) = results(trained(1, folder, kernels, LEARNERS), folder, 600)
    assert gathers(folder) == [0]
    return said


def trained(ranks: int, folder: Path, kernels: str, learners: list[str], *options: str, **gpus: Any) -> Any:
    """A job that learns on GPUs."""
    given = {"learners": learners, "iterations": ITERATIONS, "gpus": {"folder": kernels} | gpus}
    return program(ranks, folder, *options, device="cuda", **given)


def gathers(folder: Path) -> list[int]:
    """How many collectives of NCCL each rank took part in."""
    return [int(path.read_text()) for path in sorted(folder.glob("gathers-*"))]


@pytest.mark.parametrize("ranks", [2, 3])
def test_sums_by_nccl_have_the_bits_of_one_rank(ranks, alone, kernels, tmp_path):
    found = results(trained(ranks, tmp_path, kernels, LEARNERS), tmp_path, 600)
    assert found == [alone] * ranks
    assert gathers(tmp_path) == [len(LEARNERS) * ITERATIONS] * ranks  # one an update


@pytest.mark.parametrize(
    ("gpus", "why"),
    [
        ({"devices": 1}, "2 ranks share the GPU"),
        ({"nccl": {"available": False}, "only_on": 1}, "CuPy finds none on rank 1"),
        ({"nccl": {"version": 22000}, "only_on": 1}, "ranks have versions 22000, 23203"),
        ({"nccl": {"refuses": True}, "only_on": 1}, "rank 1 says NCCL_ERROR_INVALID_USAGE: invalid usage"),
    ],
)
def test_where_nccl_cannot_be_used_slopes_go_through_the_host(gpus, why, alone, kernels, tmp_path):
    run = trained(2, tmp_path, kernels, ["MAML"], **gpus)
    said = output(run)
    assert run.returncode == 0, said
    assert kept(tmp_path) == [alone[:1]] * 2
    assert f"Slopes go through the host, not by NCCL: {why}" in said
    assert said.count("not by NCCL") == 1
    assert gathers(tmp_path) == [0, 0]


def test_nccl_can_be_switched_off(alone, kernels, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTMETA_NCCL", "0")
    run = trained(2, tmp_path, kernels, ["MAML"])
    said = output(run)
    assert "not by NCCL: it is switched off on rank 0" in said
    assert kept(tmp_path) == [alone[:1]] * 2
    assert gathers(tmp_path) == [0, 0]


def test_an_error_of_nccl_ends_all_with_its_message(kernels, tmp_path):
    run = trained(3, tmp_path, kernels, ["MAML"], nccl={"fails": 2}, only_on=1)
    said = output(run)
    assert run.returncode != 0
    assert "rank 1 of 3 failed: RankError: NCCL failed: NCCL_ERROR_SYSTEM_ERROR: unhandled system error" in said
    assert "Without it: FASTMETA_NCCL=0." in said


def test_under_ulfm_an_error_of_nccl_is_survived_with_the_same_bits(alone, kernels, tmp_path):
    run = trained(3, tmp_path, kernels, ["MAML"], "--with-ft", "ulfm", nccl={"fails": 2}, only_on=1)
    said = output(run)
    assert kept(tmp_path) == [alone[:1]] * 3, said
    assert "rank 1 of 3: NCCL failed, slopes now go through the host: NCCL_ERROR_SYSTEM_ERROR" in said
    assert gathers(tmp_path) == [2, 2, 2]


def test_under_ulfm_a_rank_that_dies_in_a_collective_of_nccl_is_survived(alone, kernels, tmp_path):
    run = trained(3, tmp_path, kernels, ["MAML"], "--with-ft", "ulfm", nccl={"dies": 3}, only_on=0)
    said = output(run)
    assert "1 of 3 ranks were lost; 2 go on, to the same bits." in said
    assert kept(tmp_path) == [alone[:1]] * 2


@pytest.mark.gpu
def test_on_gpus_one_and_two_ranks_have_the_same_bits(tmp_path):
    """By NCCL where there are two and CuPy has it, through the host otherwise; which, the output says."""
    try:
        machine.cupy()
    except (ModuleNotFoundError, DeviceError) as error:
        pytest.skip(str(error))
    found = []
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        run = program(ranks, folder, device="cuda", learners=LEARNERS)
        print(output(run, 500))
        found += kept(folder)
    assert found == [found[0]] * 3
