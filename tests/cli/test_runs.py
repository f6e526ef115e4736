"""The life of a run: who owns its folder, what ends it, what it leaves, and settings that make no sense."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import fastmeta as fm
from fastmeta.cli import main
from fastmeta.cli.lock import locked
from fastmeta.cli.log import Log
from fastmeta.cli.run_folder import RunFolder

QUICK = ["--device", "numpy", "--episodes", "3"]
SINUSOID = ["train", "sinusoid", *QUICK]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], prog_name="fastmeta")


def process(*arguments: object, **options) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, "text": True} | options
    return subprocess.Popen([sys.executable, "-m", "fastmeta.cli", *map(str, arguments)], **pipes)


def running(folder: Path, lines: int = 20, **options) -> subprocess.Popen[str]:
    """A run of many iterations that has done some."""
    run = process(*SINUSOID, "--iterations", 100_000, "--out", folder, **options)
    end, log = time.monotonic() + 60, folder / "log.jsonl"
    while not log.exists() or log.read_bytes().count(b"\n") < lines:
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)
    return run


def content(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 20 iterations."""
    folder = tmp_path_factory.mktemp("runs") / "sinusoid"
    assert invoke(*SINUSOID, "--iterations", 20, "--out", folder).exit_code == 0
    return folder


# one owner


@pytest.mark.parametrize("again", [["--resume"], ["--resume", "--iterations", 200_000], ["--iterations", 7]])
def test_a_run_that_is_running_is_left_alone(tmp_path, again):
    first = running(tmp_path)
    os.kill(first.pid, signal.SIGSTOP)
    try:
        before = content(tmp_path)
        result = invoke(*SINUSOID, "--out", tmp_path, *again)
        assert result.exit_code == 1
        wanted = f"process {first.pid} on " if "--resume" in again else "must not hold a run yet"
        assert wanted in result.output
        assert content(tmp_path) == before
    finally:
        first.kill()
        first.communicate()


def test_of_two_starts_in_one_new_folder_one_runs(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with (
        folder.owned({"fastmeta": "1", "problem": "sinusoid"}),
        pytest.raises(ValueError, match=r"must not be in use: process \d+ on .* trains in it"),
        RunFolder(tmp_path / "run").owned({}),
    ):
        raise AssertionError("both own it")
    assert os.listdir(tmp_path / "run") == ["config.json"]


def test_a_dead_process_owns_nothing(tmp_path):
    first = running(tmp_path)
    first.kill()
    first.communicate()
    assert (tmp_path / "run.lock").exists()
    (tmp_path / ".fastmeta-0123.tmp").write_bytes(b"half a checkpoint")
    done = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["iteration"]
    assert invoke("train", "sinusoid", "--out", tmp_path, "--resume", "--iterations", done + 3).exit_code == 0
    assert not {"run.lock", ".fastmeta-0123.tmp"} & set(os.listdir(tmp_path))
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == done + 3


def test_a_lock_that_is_let_go_while_it_is_asked_for_is_taken_anew(tmp_path):
    path = tmp_path / "lock"
    for _ in range(3):
        with locked(path, "it"), pytest.raises(ValueError, match="it must not be in use"), locked(path, "it"):
            pass
        assert not path.exists()


# what ends a run


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGXCPU])
def test_a_run_that_is_told_to_end_keeps_its_last_iteration(tmp_path, number):
    def listen():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup, under which tests may run, has ignored

    first = running(tmp_path, preexec_fn=listen)
    first.send_signal(number)
    said = first.communicate(timeout=60)[1]
    assert first.returncode == 128 + number
    assert f"{tmp_path}/checkpoint.safetensors holds it. Go on with: fastmeta train sinusoid" in said
    done = len((tmp_path / "log.jsonl").read_text().splitlines())
    step = fm.load(tmp_path / "checkpoint.safetensors").training.step
    assert step in (done, done + 1)  # told between an iteration and its line, which a resume writes


def test_nohup_is_respected(tmp_path):
    first = running(tmp_path, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    first.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert first.poll() is None
    first.kill()
    first.communicate()


@pytest.mark.parametrize(("size", "step", "named"), [(3_000, None, "checkpoint"), (60_000, "all", "log")])
def test_a_full_disk_is_said_and_what_was_learned_is_kept(tmp_path, size, step, named):
    """The first checkpoint finds no room, or a long log does not."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))  # noqa: E731
    first = process(*SINUSOID, "--iterations", 3000, "--out", tmp_path / "run", preexec_fn=limit)
    said = first.communicate(timeout=120)[1]
    assert first.returncode == 1
    assert "File too large" in said
    assert f"{tmp_path}/run/{named}" in said
    if step is None:
        assert os.listdir(tmp_path) == []
        return
    text = (tmp_path / "run" / "log.jsonl").read_text()
    done = [json.loads(line)["iteration"] for line in text.splitlines()]
    assert done == list(range(1, len(done) + 1))
    assert fm.load(tmp_path / "run" / "checkpoint.safetensors").training.step == len(done) + 1
    assert "Traceback" not in said
    more = ["--resume", "--iterations", len(done) + 5]
    assert invoke("train", "sinusoid", "--out", tmp_path / "run", *more).exit_code == 0
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == len(done) + 5


@pytest.mark.parametrize("take", [shutil.rmtree, lambda path: path.rename(path.parent / "moved")])
def test_a_folder_that_is_taken_away_is_said_at_once(tmp_path, take):
    folder = tmp_path / "run"
    first = running(folder)
    os.kill(first.pid, signal.SIGSTOP)
    take(folder)
    os.kill(first.pid, signal.SIGCONT)
    said = first.communicate(timeout=30)[1]
    assert first.returncode == 1
    assert "removed or moved" in said
    assert f'"{folder}/checkpoint.safetensors" holds iteration' in said
    assert invoke("evaluate", folder, "--device", "numpy").exit_code == 0
    step = fm.load(folder / "checkpoint.safetensors").training.step
    assert invoke("train", "sinusoid", "--out", folder, "--resume", "--iterations", step + 1).exit_code == 0


def test_a_folder_of_another_run_in_its_place_is_not_touched(tmp_path):
    folder = tmp_path / "run"
    first = running(folder)
    os.kill(first.pid, signal.SIGSTOP)
    folder.rename(tmp_path / "moved")
    folder.mkdir()
    (folder / "config.json").write_text("another's")
    os.kill(first.pid, signal.SIGCONT)
    first.communicate(timeout=30)
    assert first.returncode == 1
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"config.json": "another's"}


def test_the_log_begins_no_line_that_finds_no_room(tmp_path, monkeypatch):
    write, room = os.write, [110]

    def full(file: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        count = write(file, data[: room[0]])
        room[0] -= count
        return count

    with Log(RunFolder(tmp_path)) as log:
        monkeypatch.setattr(os, "write", full)
        for i in range(1, 4):
            log.append(i, {"loss": 0.5})
        with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/log.jsonl'"):
            log.append(4, {"loss": 0.5})
    assert (tmp_path / "log.jsonl").read_text() == "".join(f'{{"iteration": {i}, "loss": 0.5}}\n' for i in range(1, 4))


@pytest.mark.parametrize("stream", ["stdout", "stderr", "both"])
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_closed_pipe_loses_no_score(run, tmp_path, stream, command):
    ear, mouth = os.pipe()
    os.close(ear)
    closed = {"stdout": mouth, "stderr": mouth} if stream == "both" else {stream: mouth}
    folder, score = tmp_path / "run", "score.json"
    if command == "evaluate":
        shutil.copytree(run, folder)
        arguments, score = ["evaluate", folder, "--device", "numpy", "--save", "again"], "again.json"
    else:
        arguments = [*SINUSOID, "--iterations", 20, "--out", folder]
    done = process(*arguments, **closed)
    os.close(mouth)
    done.communicate(timeout=60)
    assert done.returncode == 0
    assert json.loads((folder / score).read_text())["scores"][0]["values"]


@pytest.mark.parametrize("descriptors", [(1,), (2,), (1, 2), (0, 1, 2)])
def test_a_run_that_was_started_without_streams_ends_with_its_score(tmp_path, descriptors):
    def close() -> None:
        for descriptor in descriptors:
            os.close(descriptor)

    run = process(*SINUSOID, "--iterations", 5, "--out", tmp_path / "run", preexec_fn=close)
    run.communicate(timeout=60)
    assert run.returncode == 0
    assert json.loads((tmp_path / "run" / "score.json").read_text())["scores"][0]["values"]


@pytest.mark.parametrize("below", ["", "b", "b/c"])
def test_a_folder_that_cannot_be_made_is_named(tmp_path, below):
    (tmp_path / "file").touch()
    folder = RunFolder(tmp_path / "file" / below)
    with pytest.raises(ValueError, match=r'out=".*" must be a place for a folder'), folder.owned({}):
        pass


def test_a_full_standard_output_is_named(tmp_path):
    with open("/dev/full", "w") as full:
        run = process(*SINUSOID, "--iterations", 5, "--out", tmp_path / "run", stdout=full)
        assert "No space left on device: 'standard output'" in run.communicate(timeout=60)[1]
    assert run.returncode == 1


# a start that failed


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--iterations", "9" * 15], "iterations=999999999999999 must be so few"),
        (["--inner-lr", "1e30"], "Iteration 1"),
        (["--algorithm", "protonet"], "must have classes"),
        (["--batch-norm", "support"], "has no batch norm"),
    ],
)
@pytest.mark.parametrize("there", [False, True])
def test_a_failed_start_leaves_nothing_in_the_way(tmp_path, wrong, message, there):
    folder = tmp_path / "runs" / "one"
    if there:
        folder.mkdir(parents=True)
    result = invoke(*SINUSOID, "--out", folder, *wrong)
    assert result.exit_code == 1
    assert message in result.output
    assert list(tmp_path.rglob("*")) == ([folder.parent, folder] if there else [])
    assert invoke(*SINUSOID, "--out", folder, "--iterations", 2).exit_code == 0


def test_a_start_that_was_killed_leaves_nothing_in_the_way(run, tmp_path):
    shutil.copy(run / "config.json", tmp_path)
    (tmp_path / "log.jsonl").touch()
    assert invoke(*SINUSOID, "--out", tmp_path, "--iterations", 2, "--shots", 3).exit_code == 0
    assert json.loads((tmp_path / "config.json").read_text())["shots"] == 3


@pytest.mark.parametrize(("name", "text"), [("config.json", "{}"), ("config.json", "mine"), ("log.jsonl", "mine")])
def test_files_of_other_programs_are_not_overwritten(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    result = invoke(*SINUSOID, "--out", tmp_path, "--iterations", 2)
    assert result.exit_code == 1
    assert f"must not hold a {name} of another program" in result.output
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: text}


# settings that make no sense


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"problem": "os"}, 'problem="os" must be one of'),
        ({"problem": []}, "problem=[] must be"),
        ({"algorithm": "mamml"}, 'Did you mean "maml"?'),
        ({"algorithm": None}, "algorithm is missing."),
        ({"algorithm": {"a": 1}}, "algorithm={'a': 1} must be"),
        ({"inner_step": 3}, 'Did you mean "inner_steps"?'),
        ({"shots": "five"}, 'shots="five" must be a whole number.'),
        ({"shots": -1}, "shots=-1 must be at least 1."),
        ({"shots": 1.5}, "shots=1.5 must be a whole number."),
        ({"shots": True}, "shots=True must be a whole number."),
        ({"shots": 10**30}, "must be at most"),
        ({"iterations": float("nan")}, "iterations=nan must be a whole number."),
        ({"learning_rate": float("inf")}, "learning_rate=inf must be finite."),
        ({"learning_rate": [1]}, "learning_rate=[1] must be a number."),
        ({"evaluation_steps": "1,5"}, "evaluation_steps='1,5' must be whole numbers that rise"),
        ({"evaluation_steps": [5, 1]}, "evaluation_steps=[5, 1] must be whole numbers that rise"),
        ({"evaluation_steps": [[]]}, "evaluation_steps=[] must be a whole number."),
        ({"learn_inner_lr": "yes"}, "learn_inner_lr='yes' must be true or false."),
        ({"episodes": None}, "episodes is missing."),
    ],
)
@pytest.mark.parametrize("command", [["evaluate"], ["train", "sinusoid", "--resume", "--out"]])
def test_settings_that_make_no_sense_are_errors_of_one_line(run, tmp_path, changes, message, command):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | changes))
    result = invoke(*command, folder)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert message in result.output
    assert f"{folder}/config.json must hold settings that this fastmeta knows" in result.output
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("key", ["problem", "algorithm", "shots", "evaluation_steps", "episodes"])
def test_settings_that_are_missing_are_named(run, tmp_path, key):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    settings = json.loads((folder / "config.json").read_text())
    del settings[key]
    (folder / "config.json").write_text(json.dumps(settings))
    result = invoke("evaluate", folder, "--device", "numpy")
    assert result.exit_code == 1
    assert f"{folder}/config.json must hold" in result.output
    assert key in result.output


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, "null", "[]", '"text"', '{"problem": ' + "9" * 5000 + "}", b"\xff\xfe{", b"\0" * 9]
)
@pytest.mark.parametrize("name", ["config.json", "score.json"])
def test_what_is_no_object_is_an_error_of_one_line(run, tmp_path, name, text):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    result = invoke("compare", folder, folder, "--picture", tmp_path / "picture.png")
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert f"{folder}/{name} must be" in result.output


def test_a_file_of_settings_that_takes_gigabytes_is_not_read(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    os.truncate(folder / "config.json", 6 << 30)
    result = invoke("evaluate", folder)
    assert result.exit_code == 1
    assert "config.json must be at most 256 MiB, not 6144" in result.output


@pytest.mark.parametrize("scores", [1, [], [1], [{}], [{"shots": 10}], {"a": 1}])
def test_scores_that_make_no_sense_are_errors_of_one_line(run, tmp_path, scores):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (folder / "score.json").write_text(json.dumps({"scores": scores}))
    result = invoke("compare", run, folder, "--picture", tmp_path / "picture.png")
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)


# going on, and the best on validation


def test_a_run_starts_with_what_another_learned_and_keeps_its_best(run, tmp_path):
    options = ["--iterations", 8, "--validate-every", 2, "--patience", 3, "--start", run, "--out", tmp_path / "new"]
    done = invoke(*SINUSOID, *options)
    assert done.exit_code == 0, done.output
    assert "The best on validation, " in done.output
    lines = [json.loads(line) for line in (tmp_path / "new" / "log.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines if "validation" in line] == list(range(2, len(lines) + 1, 2))
    found = fm.load(tmp_path / "new" / "checkpoint.safetensors")
    assert found.best is not None
    assert found.best.score == min(line["validation"] for line in lines if "validation" in line)
    alone = invoke(*SINUSOID, "--iterations", 8, "--out", tmp_path / "alone")
    assert alone.exit_code == 0
    first = json.loads((tmp_path / "alone" / "log.jsonl").read_text().splitlines()[0])
    assert first["loss"] != lines[0]["loss"]
    log = (tmp_path / "new" / "log.jsonl").read_bytes()
    again = invoke("train", "sinusoid", "--out", tmp_path / "new", "--resume")
    assert again.exit_code == 0, again.output
    assert (tmp_path / "new" / "log.jsonl").read_bytes() == log


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--patience", 2], "patience=2 must come with validate_every"),
        (["--validate-every", 30], "validate_every=30 must be at most iterations=5"),
        (["--start", "nowhere"], "must be a checkpoint file"),
        (["--start", "RUN", "--algorithm", "reptile"], "must be of Reptile, not MAML"),
    ],
)
def test_a_start_or_validation_that_cannot_be_leaves_no_folder(run, tmp_path, options, message):
    words = [run if word == "RUN" else word for word in options]
    done = invoke(*SINUSOID, "--iterations", 5, "--out", tmp_path / "new", *words)
    assert done.exit_code == 1, done.output
    assert message in done.output
    assert not (tmp_path / "new").exists()
