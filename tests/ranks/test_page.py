"""The page on ranks: its program prints what is shown, its commands are understood, its sweep does not collide."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys

import pytest
from click import Context, Group

from benchmarks import ranks as benchmark
from fastmeta.cli import main
from tests.ranks.launching import MPIEXEC, ROOT, needs_mpi, started

PAGE = (ROOT / "docs" / "ranks.md").read_text("utf-8")
RESULTS = ROOT / "benchmarks" / "results"
COMMANDS = re.findall(r"fastmeta (?:train|evaluate|compare)[^\n`#']+", PAGE)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@needs_mpi
def test_the_program_prints_what_is_shown_on_two_ranks(tmp_path):
    (program,), (shown, _) = blocks("python"), blocks("text")
    (tmp_path / "program.py").write_text(program)
    run = started(2, sys.executable, "program.py", cwd=tmp_path)
    said, _ = run.communicate(timeout=120)
    assert run.returncode == 0, said
    words = said.splitlines()[-1].split()  # the transport may warn before
    assert words[-1] == shown.split()[-1]  # the episodes
    assert float(words[0]) == pytest.approx(float(shown.split()[0]), abs=0.05)


@needs_mpi
def test_the_sweep_runs_in_folders_of_its_own_and_is_compared(tmp_path):
    (sweep,) = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("mpiexec -n 4 sh")]
    command = shlex.split(sweep)[5].replace("fastmeta", str(MPIEXEC.with_name("fastmeta")))
    command = command.replace("--threads 1", "--device numpy --iterations 3 --episodes 4")
    run = started(2, "sh", "-c", command, cwd=tmp_path)
    said, _ = run.communicate(timeout=120)
    assert run.returncode == 0, said
    folders = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert folders == ["seed0", "seed1"]
    seeds = [json.loads((tmp_path / "runs" / name / "config.json").read_text())["seed"] for name in folders]
    assert seeds == [0, 1]
    words = [MPIEXEC.with_name("fastmeta"), "compare", *(tmp_path / "runs" / name for name in folders)]
    compared = subprocess.run(list(map(str, words)), capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "seed" in compared.stdout


@pytest.mark.parametrize("line", COMMANDS)
def test_its_commands_are_understood(line):
    words = shlex.split(re.sub(r"\$(\w+|\{\w+\})", "1", line))[1:]
    command, context = main, Context(main, info_name="fastmeta")
    while isinstance(command, Group):
        name, command, words = command.resolve_command(context, words)
        context = Context(command, context, name)
    command.parse_args(context, words)


def test_the_measurements_are_those_of_the_committed_run():
    results = json.loads((RESULTS / "ranks.json").read_text("utf-8"))
    (_, measured) = blocks("text")
    assert measured.strip() == (RESULTS / "ranks.txt").read_text("utf-8").strip()
    (weak,) = [r for r in results["rows"] if (r["problem"], r["scaling"], r["ranks"]) == ("omniglot", "weak", 2)]
    said = re.search(r"Omniglot is (\d+) % as fast a task on two ranks as on one; (\d+) %", PAGE)
    assert said is not None
    assert [int(number) for number in said.groups()] == [
        round(100 * share) for share in (weak["efficiency"], weak["reduction"] / weak["update"])
    ]
    assert weak["efficiency"] >= 0.95
    (alone,) = {row["without_ranks"] for row in results["rows"] if row["problem"] == "omniglot" and row["ranks"] == 1}
    assert f"Two ranks are {alone / weak['update']:.0%} as fast a task as a fit without".replace("%", " %") in PAGE
    kills = (RESULTS / "rank-kills.txt").read_text("utf-8")
    survived = [tuple(map(int, found)) for found in re.findall(r"(\d+) of (\d+) ranks killed: (\d+) of (\d+)", kills)]
    assert all(left == n - killed == same for killed, n, same, left in survived)
    assert f"{sum(killed for killed, *_ in survived)} of {sum(killed for killed, *_ in survived)} kills" in PAGE


def test_the_cost_model_finds_what_made_the_times():
    true = {"work": {"a": 2e-3, "b": 5e-2}, "draw": {"a": 1e-6, "b": 1e-5}, "latency": 2e-5, "bandwidth": 3e9}
    rows = []
    for name, parameters in (("a", 2_000), ("b", 10_000_000)):
        for ranks, tasks in ((1, 32), (2, 64), (2, 32), (4, 128), (4, 32)):
            seconds = benchmark.predicted(true, name, parameters, tasks, ranks)
            compute = tasks / ranks * true["work"][name] + tasks * true["draw"][name]
            row = {"problem": name, "ranks": ranks, "tasks": tasks, "parameters": parameters, "update": seconds}
            rows.append(row | {"draw": true["draw"][name], "quickest_reduction": seconds - compute})
    found = benchmark.fitted(rows)
    assert found["latency"] == pytest.approx(2e-5, rel=1e-6)
    assert found["bandwidth"] == pytest.approx(3e9, rel=1e-6)
    assert found["work"] == pytest.approx(true["work"], rel=1e-2)
    rows = benchmark.projection(found, {"a": 2_000})
    assert rows[0]["efficiency"][1] == 1
    assert all(
        a >= b for a, b in zip(rows[0]["efficiency"].values(), [*rows[0]["efficiency"].values()][1:], strict=False)
    )


@needs_mpi
@pytest.mark.slow
def test_the_benchmark_runs_small(tmp_path):
    out = tmp_path / "ranks.json"
    words = [sys.executable, "-m", "benchmarks.ranks", "sinusoid", "--small", "--out", out]
    subprocess.run(list(map(str, words)), check=True, cwd=ROOT, timeout=600)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".txt", ".png"}
