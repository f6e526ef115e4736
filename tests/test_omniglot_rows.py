"""Rows of the Omniglot benchmark: tiny trainings by the real command, gone on with, scored, written and shown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import fastmeta as fm
from benchmarks.omniglot import __main__ as command
from benchmarks.omniglot import results, rows, runs, table, trials
from benchmarks.omniglot.rows import PUBLISHED, ROWS, USUAL
from fastmeta.cli import recipes
from fastmeta.cli.algorithms import ALGORITHMS
from fastmeta.cli.problems import PROBLEMS
from fastmeta.cli.train import train as train_group
from fastmeta.learning.learner import Learner

ROOT = Path(__file__).resolve().parents[1]
TINY = "--channels 2 --iterations 4 --tasks-per-step 1 --queries 1 "
NUMPY = ("--data", "nowhere", "--device", "numpy", "--episodes", "3")


class Drawings:
    """In the place of Omniglot: characters of random pixels, others in each part."""

    def __init__(self, data: object, ways: int, shots: int, queries: int, split: str) -> None:
        for i, part in enumerate(("train", "validation", "test")):
            x = np.random.default_rng(i).random((24 * 20, 28, 28, 1), np.float32)
            setattr(
                self, part, fm.tasks.from_arrays(x, np.repeat(np.arange(24 * i, 24 * i + 24), 20), ways, shots, queries)
            )


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Runs of tiny trainings, results beside them, and a page that waits for its table."""
    monkeypatch.setattr(fm.tasks, "Omniglot", Drawings)
    tiny = {"protonet": TINY + "--train-ways 6", "transfer": TINY + "--batch-size 8"}
    for algorithm, sizes in rows.RECIPES.items():
        monkeypatch.setitem(rows.RECIPES, algorithm, dict.fromkeys(sizes, tiny.get(algorithm, TINY)))
    monkeypatch.setattr(rows, "VALIDATIONS", 1)
    marks = "<!-- measured: omniglot.json -->\n<!-- end of measured -->\n"
    (tmp_path / "page.md").write_text(f"before\n\n{marks}\nafter\n")
    return runs.Place(tmp_path / "runs", "nowhere", 3, "numpy")


def train(folder: Path, *options: str) -> list[runs.Entry]:
    where = ("--runs", folder / "runs", "--out", folder, "--page", folder / "page.md")
    command.main([*NUMPY, *map(str, where), *options])
    return json.loads((folder / "omniglot.json").read_text())


def settings(row):
    """Of a row's training, as the command line understands its options; without any work."""
    given = train_group.commands["omniglot"].make_context("omniglot", row.options()).params
    known = recipes.applying(PROBLEMS["omniglot"], ALGORITHMS[row.algorithm])
    chosen = {name: value for name, value in given.items() if value is not None and name in known}
    assert len(chosen) == len([word for word in row.options() if word.startswith("--")])
    return recipes.recipe(PROBLEMS["omniglot"], chosen)


@pytest.mark.parametrize("name", ROWS)
def test_every_row_is_a_command_that_is_understood(name):
    row, chosen = ROWS[name], settings(ROWS[name])
    assert (chosen["algorithm"], chosen["downsample"]) == (row.algorithm, row.network)
    assert row.name == name
    assert ("validate_every" in chosen) == (row.algorithm not in rows.ONCE)
    assert row.algorithm in ("transfer", "anil") or row.size in PUBLISHED[row.algorithm]
    recipes.new_learner(chosen, fm.Conv4(channels=1, outputs=None if row.algorithm == "protonet" else 20))


def test_the_switches_of_mamlpp_go_off_in_turn():
    chosen = [ROWS[f"maml++-without-{switch}-pool-20w1s"] for switch in rows.WITHOUT]
    assert len({row.training for row in chosen}) == 3
    off = [settings(row) for row in chosen]
    learners = [recipes.new_learner(s, fm.Conv4(channels=1)) for s in off]
    assert [learner.learn_inner_lr for learner in learners] == [False, True, True]
    assert [learner.step_norms for learner in learners] == [True, False, True]
    schedules = [recipes.optimizer(*pair).learning_rate for pair in zip(learners, off, strict=True)]
    assert [schedule(8000) for schedule in schedules] == pytest.approx([5e-5, 5e-5, 5e-3])


def test_pools_take_fewer_updates():
    for algorithm, size in ((algorithm, size) for algorithm, sizes in rows.ON_POOLS.items() for size in sizes):
        stride, pool = (settings(ROWS[f"{algorithm}-{network}-{size}"]) for network in rows.NETWORKS)
        assert pool["iterations"] < stride["iterations"]


def test_the_usual_rows_have_the_networks_of_their_papers():
    assert {"maml-stride-20w5s", "protonet-pool-5w1s", "maml++-pool-20w1s"} <= set(USUAL)
    assert not {"maml-pool-5w1s", "maml++-stride-5w5s", "maml++-without-step-norms-pool-20w1s"} & set(USUAL)


def test_rows_are_trained_scored_written_and_shown(place, tmp_path, capsys):
    entries = train(
        tmp_path, "--rows", "protonet-pool-5w1s", "protonet-pool-20w1s", "maml-stride-5w1s", "--seeds", "0,1"
    )
    assert [(entry["row"], entry["seed"]) for entry in entries] == [
        (name, seed) for name in ("maml-stride-5w1s", "protonet-pool-5w1s", "protonet-pool-20w1s") for seed in (0, 1)
    ]
    assert len(list(place.runs.iterdir())) == 4  # 20-way ProtoNet is that of 5 ways
    maml, _, protonet, other, wide, _ = entries
    assert maml["scores"].keys() == {"transductive", "support", "frozen"}
    assert protonet["scores"].keys() == {"transductive", "frozen"}
    assert protonet["scores"]["transductive"]["stream"] == other["scores"]["transductive"]["stream"]
    assert protonet["scores"]["transductive"]["stream"] == maml["scores"]["transductive"]["stream"]
    assert protonet["scores"]["transductive"]["stream"] != protonet["validation"]["stream"]
    assert protonet["scores"]["transductive"]["values"] != other["scores"]["transductive"]["values"]
    assert "values" not in protonet["scores"]["frozen"]
    assert maml["validation_curve"][0] == [4]
    assert all(0 <= score <= 1 for score in maml["validation_curve"][1])
    assert "validation_curve" not in protonet
    assert "curve" in protonet
    assert "curve" not in wide
    assert "data" not in protonet["config"]
    assert (maml["config"]["downsample"], protonet["config"]["downsample"]) == ("stride", "pool")
    assert (tmp_path / "omniglot-curves.png").stat().st_size > 1000
    page = (tmp_path / "page.md").read_text()
    assert (page.splitlines()[0], page.splitlines()[-1]) == ("before", "after")
    assert page == table.page(page, entries)
    assert table.tables(entries) in page
    assert table.tables(entries) in capsys.readouterr().out


def test_what_was_stopped_goes_on_and_what_is_there_is_left(place, tmp_path, monkeypatch):
    iterate = Learner._iterate

    def stopped(self, tasks, optimizer):
        if self.training.step == 2:
            raise KeyboardInterrupt
        return iterate(self, tasks, optimizer)

    monkeypatch.setattr(Learner, "_iterate", stopped)
    asked = ("--rows", "fomaml-stride-5w1s", "--seeds", "0")
    with pytest.raises(SystemExit, match="130"):
        train(tmp_path, *asked)
    folder = place.folder(ROWS["fomaml-stride-5w1s"], 0)
    assert fm.load(folder / "checkpoint.safetensors", "numpy").training.step == 2
    assert results.gathered(tmp_path / "omniglot.json", place) == []
    monkeypatch.setattr(Learner, "_iterate", iterate)
    (entry,) = train(tmp_path, *asked)
    straight = tmp_path / "straight"
    straight.mkdir()
    (again,) = train(straight, *asked)
    assert {**entry, "seconds": 0} == {**again, "seconds": 0}

    monkeypatch.setattr(runs, "_command", lambda *words: pytest.fail(f"{words} is run again"))
    assert train(tmp_path, *asked) == [entry]
    assert train(tmp_path, "--table") == [entry]
    with pytest.raises(SystemExit):
        train(tmp_path, "--rows", "mamml-5w1s")


def test_trials_are_scored_on_validation_characters(place, tmp_path, monkeypatch, capsys):
    where = ["--data", "nowhere", "--device", "numpy", "--episodes", "3", "--runs", str(tmp_path / "trials")]
    asked = ["fomaml-stride-5w1s", "--iterations 2", "--learning-rate 1 --iterations 2", *where]
    trials.main(asked)
    printed = capsys.readouterr().out
    learners = [fm.load(path, "numpy") for path in sorted(tmp_path.glob("trials/*/checkpoint.safetensors"))]
    assert [learner.training.step for learner in learners] == [2, 2]
    assert not np.array_equal(*(learner.theta for learner in learners))
    files = sorted(tmp_path.glob("trials/*/validation_5w1s.json"))
    scores = [json.loads(path.read_text())["scores"][-1] for path in files]
    (entry,) = train(tmp_path, "--rows", "fomaml-stride-5w1s", "--seeds", "0")
    assert {score["stream"] for score in scores} == {entry["validation"]["stream"]}

    capsys.readouterr()
    monkeypatch.setattr(runs, "_command", lambda *words: pytest.fail(f"{words} is run again"))
    trials.main(asked)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in printed.splitlines() if line in lines] == lines
    assert f"{100 * scores[0]['mean']:6.2f} ± {100 * scores[0]['ci95']:.2f} %" in lines[1]


def test_a_row_that_diverges_keeps_none_from_its_turn(place, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(rows.RECIPES, "fomaml", {"5w1s": TINY + "--inner-lr 1e30"})
    entries = train(tmp_path, "--rows", "fomaml-stride-5w1s", "transfer-linear-stride-5w1s", "--seeds", "0")
    assert [entry["row"] for entry in entries] == ["transfer-linear-stride-5w1s"]
    assert "values" not in entries[0]["validation"]
    assert "fomaml-stride-5w1s, seed 0: " in capsys.readouterr().out


def test_entries_without_runs_are_kept(place, tmp_path):
    old = _entry("protonet-5w1s", "protonet", "ProtoNet", [0.9], "one")
    results.keep([old], tmp_path / "omniglot.json")
    entries = train(tmp_path, "--rows", "transfer-centroid-stride-5w1s", "transfer-linear-stride-5w5s", "--seeds", "3")
    assert [entry["row"] for entry in entries] == [
        "transfer-centroid-stride-5w1s",
        "transfer-linear-stride-5w5s",
        "protonet-5w1s",
    ]
    assert entries[-1] == old
    assert [entry["learner"] for entry in entries[:2]] == ["Transfer centroid", "Transfer linear"]
    assert len(list(place.runs.iterdir())) == 1
    assert list(entries[0]["scores"]) == ["inductive"]


def test_checkpoints_are_theta_alone_and_small_in_all(place, tmp_path, monkeypatch):
    train(tmp_path, "--rows", "maml-stride-5w1s", "--seeds", "0,2", "--checkpoints")
    files = sorted((tmp_path / "checkpoints").iterdir())
    assert [file.name for file in files] == [f"maml-stride-5w1s-seed{seed}.safetensors" for seed in (0, 2)]
    from safetensors.numpy import load_file

    trained = fm.load(place.runs / "maml-stride-5w1s-seed2" / "checkpoint.safetensors", "numpy")
    (theta,) = load_file(files[1]).values()
    assert theta.dtype == np.float32
    np.testing.assert_array_equal(theta, trained.theta)
    assert results.keep_checkpoints(place, tmp_path / "checkpoints") == []
    monkeypatch.setattr(results, "LARGEST", 100)
    with pytest.raises(ValueError, match="must be at most 0 MiB"):
        results.keep_checkpoints(place, tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def _entry(row, algorithm, learner, values, stream, seed=0, **more):
    mean = float(np.mean(values))
    score = {"mean": mean, "ci95": 0.01, "batch_norm": "transductive", "stream": stream, "measure": "accuracy"}
    config = {"iterations": 5000, "tasks_per_step": 1, "queries": 5}
    named = {"row": row, "seed": seed, "algorithm": algorithm, "network": "pool", "size": "5w1s", "learner": learner}
    return named | {"config": config, "seconds": 10.0, "scores": {"transductive": score | {"values": values}}} | more


def _cells(line):
    return dict(zip(table.HEADS, (cell.strip() for cell in line[1:-1].split(" | ")), strict=True))


def test_interval_over_tasks_and_spread_over_seeds_stand_apart():
    base = [_entry("transfer", "transfer", "Transfer linear", [0.5, 0.7], "one")]
    seeds = [
        _entry("protonet", "protonet", "ProtoNet", [0.8 + d, 0.9 + d], "one", seed) for seed, d in enumerate((0, 0.1))
    ]
    for entry in seeds:
        entry["scores"]["frozen"] = {"mean": 0.75, "ci95": 0.01}
    text = table.tables([*seeds, *base])
    head, _, protonet, transfer = (line for line in text.splitlines() if line.startswith("|"))
    cells = [_cells(line) for line in (head, protonet, transfer)]
    assert all(cells[0][name] == name for name in table.HEADS)
    shown = cells[1]
    assert (shown["seeds"], shown["accuracy, %"], shown["± tasks"]) == ("2", "**90.00**", "1.00")
    assert shown["lowest - highest seed"] == "85.00 - 95.00"
    assert (shown["batch norm"], shown["frozen"]) == ("transductive", "75.00")
    assert shown["less transfer"] == "+30.00 ± 6.93"  # 0.85 - 0.5 and 0.95 - 0.7, paired
    assert shown["published, %"] == PUBLISHED["protonet"]["5w1s"]
    assert (shown["updates x tasks x drawings"], shown["seconds"]) == ("5,000 x 1 x 5", "10")
    assert shown["network"] == "max-pool"
    assert cells[2]["network"] == "max-pool (not the paper's)"
    assert (cells[2]["lowest - highest seed"], cells[2]["less transfer"]) == ("one seed", "")


def test_other_episodes_are_not_paired():
    base = [_entry("transfer", "transfer", "Transfer linear", [0.5, 0.7], "one")]
    other = _entry("protonet", "protonet", "ProtoNet", [0.8, 0.9], "another")
    bare = _entry("reptile", "reptile", "Reptile", [0.8, 0.9], "one")
    del bare["scores"]["transductive"]["values"]
    lines = [line for line in table.tables([*base, other, bare]).splitlines() if line.startswith("|")]
    assert [_cells(line)["less transfer"] for line in lines[2:]] == ["", "", ""]


def test_the_page_shows_the_results_that_are_committed():
    path = ROOT / "docs" / "published.md"
    text = path.read_text("utf-8")
    file = table.REGION.search(text)["file"]
    entries = list(results.saved(ROOT / file).values())
    assert text == table.page(text, entries)
