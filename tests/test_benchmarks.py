"""What the benchmarks say of themselves: README's table, the rows, and the gate in front of every time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import machine, measure, run, table, turns
from benchmarks.company import company
from benchmarks.inputs import inputs
from benchmarks.measure import Entry
from benchmarks.peers import PEERS, VARIANTS
from benchmarks.plots import learning_curve
from benchmarks.program import ProgramError
from benchmarks.workloads import CURVES, WORKLOADS, find

ROOT = Path(__file__).resolve().parents[1]
ROWS = [*WORKLOADS.values(), *(workload for curve in CURVES.values() for workload in curve.values())]


def test_readme_shows_the_tables_of_its_results():
    alone, busy = table.REGION.finditer((ROOT / "README.md").read_text("utf-8"))
    for found, in_company in ((alone, False), (busy, True)):
        results = json.loads((ROOT / found["file"]).read_text("utf-8"))
        assert results.get("busy", False) is in_company
        assert found[0] == table.readme_table(results, found["file"]), "run python -m benchmarks.table FILE --readme"


@pytest.mark.parametrize("workload", ROWS, ids=lambda workload: workload.name)
def test_every_row_is_found_has_operations_and_a_program(workload):
    assert find(workload.name) is workload or find(workload.name) == workload
    assert VARIANTS["fastmeta"][workload.kind]
    assert VARIANTS["numpy"][workload.kind]
    if workload.kind != "process":
        assert all(workload.flops(part) > 0 and workload.bytes(part) > 0 for part in workload.parts)


@pytest.mark.parametrize("name", ["sinusoid-25x1", "hvp-omniglot", "prototypes-60way", "fresh-process"])
def test_inputs_have_the_sizes_of_the_row(name):
    workload, arrays = WORKLOADS[name], inputs(WORKLOADS[name])
    assert all(a.dtype in (np.float32, np.int64) for a in arrays.values())
    if workload.parts[0] == "hvp":
        assert arrays["x"].shape == (workload.query, *workload.network.input_shape)
    else:
        assert arrays["x_support"].shape == (workload.tasks, workload.support, *workload.network.input_shape)
        assert arrays["y_query"].shape[:2] == (workload.tasks, workload.query)
    np.testing.assert_array_equal(arrays["theta"], inputs(workload)["theta"])


def test_floors_of_the_large_rows():
    """At 430 GFLOP/s, in ms, as they were worked out by hand."""
    floors = {"omniglot-q75-s1": 105, "omniglot-q75-s5": 175, "miniimagenet-s5": 103, "protonet-60way-5shot": 81}
    for name, floor in floors.items():
        workload = WORKLOADS[name]
        assert workload.flops(workload.parts[0]) / 430e6 == pytest.approx(floor, rel=0.01)


def test_a_wrong_gradient_is_not_timed():
    truth = {"gradient": np.ones(3)}
    measure.compare(Entry("jax", "right"), {"gradient": np.ones(3)}, truth)
    for wrong in (np.array([1, 1, 1 + 1e-8]), np.full(3, np.nan)):
        entry = Entry("jax", "wrong")
        with measure.recorded(entry):
            measure.compare(entry, {"gradient": wrong}, truth)
        assert entry.status.startswith("differs from the reference in float64")
    with pytest.raises(ProgramError):
        measure.compare(Entry("jax", "zero"), {"gradient": np.zeros(3)}, truth)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_errors_are_relative_to_the_whole_vector(size):
    truth = size * np.array([3.0, 0.0, 4.0])
    assert measure.relative_error(truth + size * np.array([0.0, 1e-3, 0.0]), truth) == pytest.approx(2e-4)
    entry = Entry("jax", "off by 1e-8")
    with pytest.raises(ProgramError, match="differs from the reference in float64: gradient by 1e-08"):
        measure.compare(entry, {"gradient": truth * (1 + 1e-8)}, {"gradient": truth})
    measure.compare(entry, {"gradient": truth * (1 + 1e-10)}, {"gradient": truth})


class Stand:
    """In place of a program: what it computes, in which dtype it fails, and what it was asked."""

    def __init__(self, name: str, dtype: str, folder: Path, asked: list[tuple[str, str, str]]) -> None:
        self.name, self.dtype, self.folder, self.asked = name, dtype, folder, asked
        self.start, self.versions = 0.5, {name: "1"}
        if name == "torch":
            raise ProgramError("not installed (torch)")

    def ask(self, do: str, **arguments):
        self.asked.append((self.name, self.dtype, do))
        if do == "build" and (self.name, self.dtype) == ("inductor", "float32"):
            self.fail("failed: out of memory")
        if do == "time" and self.name == "learn2learn":
            self.fail("failed: exit status 1")
        if do == "result":
            off = {"jax": 1e-6, "fastmeta": 1e-12}.get(self.name, 0.0) + (1e-7 if self.dtype == "float32" else 0.0)
            np.save(arguments["file"], 1e-3 * np.arange(1.0, 5.0) * (1 + off))
        answers = {"time": {"times": [0.25, 0.5, 0.25], "events": []}, "memory": {"peak_rss_mb": 7, "device_mb": 0}}
        return answers.get(do, {"first_call": 2.0})

    def fail(self, why: str) -> None:
        self.close()  # as a program does
        raise ProgramError(why)

    def close(self) -> None:
        self.asked.append((self.name, self.dtype, "close"))


def test_programs_that_are_wrong_or_fail_are_not_timed(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(measure.Settings, "start", lambda _, name, variant, dtype: Stand(name, dtype, tmp_path, asked))
    monkeypatch.setattr(measure, "PAUSE", 0)
    monkeypatch.setattr(machine, "busy_cores", lambda: 0.0)
    peers = ("jax", "torch", "inductor", "learn2learn", "numpy")
    variants = {name: {"mlp": ("only",)} for name in ("fastmeta", *peers)}
    settings = measure.Settings({}, peers, 1, 0.1, tmp_path, variants=variants)
    row = measure.row(WORKLOADS["sinusoid-25x1"], settings)
    entries = {entry["program"]: entry for entry in row["programs"]}
    (part,) = row["parts"]
    assert {name: entry["status"] for name, entry in entries.items()} == {
        "fastmeta": "timed",
        "jax": f"differs from the reference in float64: {part} by 1e-06",
        "torch": "not installed (torch)",
        "inductor": "failed: out of memory",
        "learn2learn": "failed: exit status 1",
        "numpy": "timed",
    }
    assert {name for name, _, do in asked if do == "time"} == {"fastmeta", "numpy", "learn2learn"}
    assert asked.count(("learn2learn", "float32", "time")) == 1  # it leaves with its first failure
    assert asked.count(("fastmeta", "float32", "time")) == measure.ROUNDS
    assert ("jax", "float32", "build") not in asked
    for name, off in (("fastmeta", 1e-12), ("jax", 1e-6), ("inductor", 0.0)):  # each was compared with the reference
        assert entries[name]["float64_error"][part] == pytest.approx(off, rel=1e-3)
    assert entries["fastmeta"]["float32_error"][part] == pytest.approx(1e-7, rel=1e-3)
    assert entries["fastmeta"]["median_ms"] == {part: 250.0}
    assert not entries["jax"]["median_ms"]
    best = table.best_entries(row)
    assert [entry["program"] for entry in best][:2] == ["fastmeta", "numpy"]  # those without a time come last
    for name, dtype, do in asked:
        if do == "build":
            assert (name, dtype, "close") in asked


def test_a_slow_variant_leaves_and_its_peer_stays():
    entries = [Entry(program, variant) for program, variant in (("jax", "a"), ("jax", "b"), ("torch", "c"))]
    for entry, ms in zip(entries, (1.0, 1.6, 9.0), strict=True):
        entry.median_ms["hvp"] = ms
    assert measure.slow_variants("hvp", entries) == [entries[1]]
    assert [entry.status for entry in entries] == ["timed", "slower variant, one round", "timed"]


def test_best_peers_are_each_rows_own():
    options = run.parser().parse_args(["--peers", "best"])
    programs = {name: settings_programs(options, name) for name in WORKLOADS}
    assert programs["sinusoid-25x1"] == ["fastmeta", "inductor", "jax"]
    assert programs["miniimagenet-s5"] == ["fastmeta", "learn2learn", "jax"]
    assert programs["omniglot-q75-s5"] == ["fastmeta", "jax"]
    assert programs["fresh-process"] == ["fastmeta", "numpy", "jax"]
    assert settings_programs(run.parser().parse_args(["--peers", "torch,jax"]), "sinusoid-25x1") == [
        "fastmeta",
        "torch",
        "jax",
    ]
    with pytest.raises(SystemExit):
        run.parser().parse_args(["--peers", "best,jax"])


def settings_programs(options, name):
    entries = run.settings(options, Path()).entries(WORKLOADS[name])
    return list(dict.fromkeys(entry.program for entry in entries))


def test_every_peer_has_a_module():
    for name in PEERS:
        assert (ROOT / "benchmarks" / "peers" / f"{name}_peer.py").exists()


def test_memory_is_the_program_s_own():
    """Not that of whoever starts it, which may hold more."""
    held = np.ones(25_000_000)
    code = "from benchmarks.machine import peak_memory; print(peak_memory())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 1 < float(done.stdout) < 100 < held.nbytes / 2**20 < machine.peak_memory()


def test_learning_curve_is_the_mean_of_each_hundredth_of_a_log(tmp_path):
    lines = [json.dumps({"iteration": i + 1, "loss": float(i)}) for i in range(305)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    at, means = learning_curve(tmp_path / "log.jsonl")
    assert at == [3 * (i + 1) for i in range(101)]
    assert means == [3.0 * i + 1 for i in range(101)]


def test_company_keeps_each_core_busy_and_ends():
    def own(process):
        return sum(map(int, Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[11:13]))

    before = set(_children())
    with company(True):
        beside = set(_children()) - before
        assert len(beside) == len(os.sched_getaffinity(0))
        cores = [os.sched_getaffinity(process) for process in beside]
        assert set().union(*cores) == os.sched_getaffinity(0)
        assert all(len(core) == 1 for core in cores)
        ticks = {process: own(process) for process in beside}
        time.sleep(0.3)
        assert all(own(process) > ticks[process] for process in beside)
    assert not set(_children()) & beside
    with company(False):
        assert set(_children()) == before


def _children():
    return [int(number) for number in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def test_two_commits_take_turns(monkeypatch, capsys):
    command = ["turns", str(ROOT), "sinusoid-25x1", "--rounds", "3", "--seconds", "0.02", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", command)
    turns.main()
    name, other, this, ratio, spread = capsys.readouterr().out.splitlines()[-1].split()
    assert name == "sinusoid-25x1"
    first, last = map(float, spread.strip("()").split("-"))
    assert first <= float(ratio) <= last
    assert float(this) > 0
    assert float(other) > 0


def test_the_ratio_of_turns_is_that_of_neighbours():
    drifting = [1.0, 2.0, 4.0, 8.0]
    assert turns.ratios([2 * time for time in drifting], drifting) == (2, 2, 2)


def test_commits_that_compute_other_things_are_not_timed(tmp_path):
    class Of:
        def __init__(self, value: float) -> None:
            self.value = value

        def ask(self, do: str, file: str = "", **arguments: object) -> None:
            if do == "result":
                np.save(file, np.full(3, self.value))

    with pytest.raises(AssertionError, match="sinusoid-25x1"):
        turns.built(find("sinusoid-25x1"), {"other": Of(1), "this": Of(1.001)}, tmp_path)
