"""Dealing tasks, adding up, comparing: what ranks do before anything is sent."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastmeta as fm
from fastmeta.ranks import digests, launch
from fastmeta.ranks.blocks import block_count, check_ranks, dealt
from fastmeta.ranks.endings import Endings
from fastmeta.ranks.flat import Layout, in_order
from fastmeta.ranks.joining import joined, take_gpu
from fastmeta_kernels import library
from fastmeta_kernels.cuda.machine import machine
from tests.kernels.cuda_on_cpu.cupy_on_cpu import CuPy, ndarray


@given(st.integers(1, 5000), st.data())
def test_every_task_is_dealt_once_and_blocks_do_not_depend_on_ranks(tasks, data):
    ranks = data.draw(st.integers(1, block_count(tasks)))
    spans = [span for rank in range(ranks) for span in dealt(tasks, rank, ranks)]
    assert spans == list(dealt(tasks, 0, 1))
    assert [t for begin, end in spans for t in range(begin, end)] == list(range(tasks))
    sizes = [len(dealt(tasks, rank, ranks)) for rank in range(ranks)]
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1


def test_more_ranks_than_blocks_are_refused():
    check_ranks(25, 25)
    check_ranks(37, 16)
    with pytest.raises(ValueError, match=r"ranks=17 must be at most 16, the blocks that tasks_per_step=32 tasks"):
        check_ranks(32, 17)
    check_ranks(32 * 1024, 1024)


@given(st.integers(1, 40), st.integers(1, 70), st.data())
def test_a_sum_in_order_does_not_depend_on_how_columns_are_parted(rows, columns, data):
    values = np.random.default_rng(rows * 71 + columns).normal(size=(rows, columns)).astype(np.float32)
    whole, at = in_order(values), data.draw(st.integers(0, columns))
    np.testing.assert_array_equal(in_order(np.ascontiguousarray(values[:, :at])), whole[:at])
    np.testing.assert_array_equal(in_order(np.ascontiguousarray(values[:, at:])), whole[at:])
    expected = np.zeros(columns, np.float32)
    for row in values:
        expected += row
    np.testing.assert_array_equal(whole, expected)


def test_slopes_come_back_from_a_row_in_their_shapes():
    parameters = {"theta": np.zeros(5, np.float32), "inner_lr": np.zeros((2, 3), np.float32)}
    slopes: dict[str, Any] = {"inner_lr": np.arange(6.0).reshape(2, 3), "theta": np.arange(5)}
    layout = Layout(parameters)
    rows = layout.rows({name: np.stack([s, 4 * s]) for name, s in slopes.items()}, np.array([0.5, 0.25]))
    assert rows.dtype == np.float32
    for row, factor in zip(rows, (0.5, 1.0), strict=True):
        for name, found in layout.slopes(row).items():
            np.testing.assert_array_equal(found, slopes[name] * factor)
            assert found.shape == parameters[name].shape
    with pytest.raises(ValueError, match=r"inner_lr is in one of them only\. Return a slope for each"):
        layout.rows({"theta": slopes["theta"][None]}, np.ones(1))


class OnGPU:
    """What an array on a GPU shows of itself."""

    __cuda_array_interface__: Any = {}  # noqa: RUF012

    def __init__(self, values: Any) -> None:
        self.values = values

    def get(self) -> Any:
        return self.values


def test_slopes_on_a_gpu_are_staged_through_the_host():
    slopes = {"theta": OnGPU(np.arange(3.0, dtype=np.float32)[None])}
    rows = Layout({"theta": np.zeros(3, np.float32)}).rows(slopes, np.array([2.0]))
    np.testing.assert_array_equal(rows, np.array([[0, 2, 4]], np.float32), strict=True)


@pytest.mark.parametrize(("number", "gpu"), [(0, 0), (1, 1), (2, 0), (5, 1)])
def test_a_rank_takes_the_gpu_of_its_number_modulo_how_many_there_are(number, gpu, monkeypatch):
    cupy = CuPy(Path())
    cupy.devices = 2
    monkeypatch.setattr(machine, "cupy", lambda: cupy)
    monkeypatch.setattr(ndarray, "device", None)
    group: Any = SimpleNamespace(on_this_machine=lambda: number)
    assert take_gpu(group) == gpu
    assert cupy.device == gpu


def test_a_rank_without_a_gpu_says_what_any_process_says(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    machine.cupy.cache_clear()
    group: Any = SimpleNamespace(on_this_machine=lambda: 0)
    with pytest.raises(ModuleNotFoundError, match='device="cuda" needs CuPy, which is not installed: pip install'):
        take_gpu(group)


def test_a_digest_of_data_changes_with_a_bit_of_them():
    x, y = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32), np.repeat([0, 1], 10)
    first = digests.of_data(fm.tasks.from_arrays(x, y, ways=2, queries=5))
    assert digests.of_data(fm.tasks.from_arrays(x.copy(), y, ways=2, queries=5)) == first
    x[-1, -1] = np.nextafter(x[-1, -1], np.float32(9))
    assert digests.of_data(fm.tasks.from_arrays(x, y, ways=2, queries=5)) != first
    assert digests.of_data(fm.tasks.Sinusoid(shots=5)) != digests.of_data(fm.tasks.Sinusoid(shots=6))


def test_a_digest_of_the_program_changes_with_a_line_of_it(tmp_path, monkeypatch):
    same = digests.versions()
    assert digests.versions() == same
    assert {"fastmeta", "python", "numpy"} <= same.keys()
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: real(path) + (b"#" if path.name == "maml.py" else b""))
    assert digests.versions()["fastmeta"] != same["fastmeta"]


def test_ranks_with_a_library_differ_from_those_without(monkeypatch):
    """Or with that of another kind of processor: their kernels were compiled otherwise."""
    own = digests.versions()
    level = SimpleNamespace(level=SimpleNamespace(name="another-kind"))
    monkeypatch.setattr(library, "loaded", lambda: level)
    assert digests.versions() == own | {"kernels": "another-kind"}


def test_what_differs_between_ranks_is_named():
    one = {"numpy": "2.4.6", "seed": "1"}
    assert digests.differing([one, dict(one)]) == ""
    found = digests.differing([one, one, one | {"numpy": "2.3.0"}])
    assert found == "numpy=2.3.0 of rank 2 must be 2.4.6, as of rank 0."
    assert digests.differing([one, one | {"numba": "0.68"}]) == "numba=0.68 of rank 1 must be nothing, as of rank 0."


def test_without_mpi4py_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(launch, "find_spec", lambda name: None)
    joined.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=r'needs mpi4py and an MPI library: pip install "fastmeta\[mpi\]"'):
        fm.MAML(fm.MLP((1, 4, 1)), device="numpy").fit(fm.tasks.Sinusoid(), 1, ranks="mpi")


def test_without_a_launcher_the_error_names_the_command(monkeypatch):
    class Alone:
        class COMM_WORLD:
            size = 1

    for name in launch.SIZES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(launch, "find_spec", lambda name: name)
    monkeypatch.setattr(launch, "_all_started", lambda: Alone)
    with pytest.raises(ValueError, match=r'ranks="mpi" must be started by a launcher. Type mpiexec -n 4 before'):
        launch.world("mpi")
    with pytest.raises(ValueError, match=r'ranks="nccl" must be one of "mpi"'):
        launch.world("nccl")


def test_a_launcher_of_another_mpi_is_refused(monkeypatch):
    """Each process would think that it is alone, and all would write one checkpoint."""

    class Alone:
        COMM_WORLD = SimpleNamespace(size=1)
        Get_library_version = staticmethod(lambda: "Open MPI v5.0.11, package: Open MPI")

    monkeypatch.setenv("PMI_SIZE", "4")
    monkeypatch.setattr(launch, "find_spec", lambda name: name)
    monkeypatch.setattr(launch, "_all_started", lambda: Alone)
    said = r"the launcher started 4 processes, of which mpi4py's library, Open MPI v5.0.11, knows 1\. Start them with"
    with pytest.raises(ValueError, match=said):
        launch.world("mpi")


def test_a_launcher_of_several_processes_is_noticed(monkeypatch):
    for name in launch.SIZES:
        monkeypatch.delenv(name, raising=False)
    assert launch.joint() is None
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "1")
    assert launch.joint() is None
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "3")
    assert launch.joint() == "mpi"


@pytest.fixture
def sigint():
    """As in the foreground: shells let programs in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("sigint")
def test_a_signal_is_noted_and_obeyed_later():
    with Endings() as endings:
        signal.raise_signal(signal.SIGINT)
        assert endings.noted == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            endings.obey(signal.SIGINT)
    with Endings():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):  # who asks twice does not wait
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("sigint")
def test_a_signal_that_nobody_obeyed_is_delivered_behind_the_last_context():
    endings = Endings()
    with endings:
        with endings:
            signal.raise_signal(signal.SIGINT)
        endings.deliver()  # not yet
        assert endings.noted
    with pytest.raises(KeyboardInterrupt):
        endings.deliver()
    endings.deliver()  # once
