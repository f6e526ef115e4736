"""What does not fit into memory says how many would, before the system kills the process."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmeta as fm
from fastmeta import memory
from fastmeta_kernels import memory as kernel_memory
from tests.cli.test_cli import invoke

GIB = 2**30
SINE = fm.tasks.Sinusoid()
NET = fm.MLP((1, 8, 1))
X = np.random.default_rng(0).random((40, 28, 28, 1), np.float32)
IMAGES = fm.tasks.from_arrays(X, np.arange(40) % 2, ways=2, queries=5)


def fit(count: int, tasks: Any = SINE, net: fm.Network = NET) -> Any:
    return fm.MAML(net, device="numpy").fit(tasks, 1, tasks_per_step=count)


def evaluate(count: int) -> Any:
    return fit(1).evaluate(SINE, 10 * count, tasks_per_step=count)


def named(error: MemoryError, argument: str) -> tuple[int, int]:
    """The number that was asked for, and the one that would fit."""
    found = re.match(rf"{argument}=(\d+) must be at most (\d+) or so to fit into memory: .*\. Lower it\.", str(error))
    assert found, error
    return int(found[1]), int(found[2])


@pytest.fixture
def two_mib(monkeypatch: pytest.MonkeyPatch) -> None:
    """So little is free."""
    monkeypatch.setattr(memory, "free_bytes", lambda: 2**21)


@pytest.mark.usefixtures("two_mib")
@pytest.mark.parametrize(("call", "count"), [(fit, 100_000), (evaluate, 100_000)])
def test_a_batch_that_cannot_fit(call: Callable[[int], Any], count: int) -> None:
    with pytest.raises(MemoryError) as error:
        call(count)
    asked, fitting = named(error.value, "tasks_per_step")
    assert asked == count
    assert 256 <= fitting < count
    call(fitting if call is fit else 1)  # and the number that is named does


@pytest.mark.parametrize(("call", "argument"), [(fit, "tasks_per_step"), (evaluate, "episodes")])
def test_a_real_machine_refuses_at_once(call: Callable[[int], Any], argument: str) -> None:
    with pytest.raises(MemoryError) as error:
        call(10**11)
    assert named(error.value, argument)[1] < 10**11


def test_images_and_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(MemoryError) as error:
        fit(10**9, IMAGES, fm.Conv4(channels=2, outputs=2))
    assert named(error.value, "tasks_per_step")[1] < 10**8
    failed = invoke("train", "sinusoid", "--tasks-per-step", 10**12, "--device", "numpy", "--out", tmp_path / "run")
    assert failed.exit_code == 1
    assert re.search(
        r"Error: .*tasks_per_step=1000000000000 must be at most \d+ or so to fit into memory", failed.output
    )


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_samples_that_cannot_fit(device: str) -> None:
    many = np.broadcast_to(np.float32(1), (10**11, 1))
    with pytest.raises(MemoryError) as error:
        NET.predict(NET.init(0), many, device=device)
    asked, fitting = named(error.value, "samples")
    assert asked == 10**11
    assert fitting < asked // 2


def test_the_kernels_ask_before_they_take_a_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    net = fm.Conv4((28, 28, 1), channels=8, outputs=2)
    x = np.broadcast_to(X[:1], (4001, 28, 28, 1))
    monkeypatch.setattr(kernel_memory, "free_bytes", lambda: 2**26)
    monkeypatch.setattr(memory, "free_bytes", lambda: 2**26)
    with pytest.raises(MemoryError, match=r"samples=4001 .*: [\d.]+ GiB are needed, 0.0625 are free") as error:
        fm.gradient(net, net.init(0), x, np.arange(4001) % 2, device="cpu")
    assert named(error.value, "samples")[1] < 1000


def test_a_task_source_that_runs_out() -> None:
    class Greedy(fm.tasks.Sinusoid):
        def sample(self, tasks: int, seed: int, step: int = 0) -> fm.Batch:
            np.empty((tasks, 10**15))
            raise AssertionError

    with pytest.raises(MemoryError) as error:
        fit(7, Greedy())
    assert named(error.value, "tasks_per_step") == (7, 1)


def test_free_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 2**20 < kernel_memory.free_bytes() < 2**50
    monkeypatch.setattr(kernel_memory, "PROC", tmp_path)
    monkeypatch.setattr(kernel_memory, "CGROUP", tmp_path)
    assert kernel_memory.free_bytes() == kernel_memory.UNLIMITED  # nothing is known
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    3000 kB\nSwapFree: 1000 kB\nHuge: 0\n")
    assert kernel_memory.free_bytes() == 4000 * 1024
    for name, value in (("max", "max"), ("current", 10_000)):
        (tmp_path / f"memory.{name}").write_text(f"{value}\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 500\n")
    assert kernel_memory.free_bytes() == 4000 * 1024  # a container without a limit
    (tmp_path / "memory.max").write_text("12000\n")
    assert kernel_memory.free_bytes() == 2500
    (tmp_path / "memory.max").write_text("9000\n")
    assert kernel_memory.free_bytes() == 0
