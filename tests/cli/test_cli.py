"""The command line: what it prints and writes, how it fails, and how a run resumes to the same bits."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from click.testing import CliRunner, Result

import fastmeta as fm
from fastmeta.cli import main
from fastmeta.cli import run as run_module
from fastmeta.cli.options import use_threads
from fastmeta.cli.problems import PROBLEMS
from fastmeta.cli.progress import Progress, duration
from fastmeta.cli.run_folder import RunFolder
from fastmeta_kernels import cpu
from tests.learning.test_checkpoint import disk_events

check_module = importlib.import_module("fastmeta.cli.check")  # fastmeta.cli.check itself is the command
ROOT = Path(__file__).resolve().parents[2]
QUICK = ["--device", "numpy", "--episodes", "20"]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], prog_name="fastmeta")


def succeed(*arguments: object) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def process(*arguments: object) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"}
    command = [sys.executable, "-m", "fastmeta.cli", *map(str, arguments)]
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )


def arrays(folder: Path) -> dict[str, np.ndarray]:
    """Everything in the checkpoint but how long the iterations took."""
    from safetensors.numpy import load_file

    return {k: v for k, v in load_file(folder / "checkpoint.safetensors").items() if k != "history.seconds"}


def assert_same_run(a: Path, b: Path) -> None:
    assert arrays(a).keys() == arrays(b).keys()
    for name, values in arrays(a).items():
        assert values.tobytes() == arrays(b)[name].tobytes(), name
    assert (a / "log.jsonl").read_bytes() == (b / "log.jsonl").read_bytes()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 40 iterations."""
    folder = tmp_path_factory.mktemp("runs") / "sinusoid"
    succeed("train", "sinusoid", "--iterations", 40, "--out", folder, *QUICK)
    return folder


def test_help_is_quick_and_in_plain_words():
    program = (
        "import sys; from fastmeta.cli import main; main(['--help'], standalone_mode=False)\n"
        "assert not {'numba', 'matplotlib', 'tqdm', 'safetensors', 'PIL'} & set(sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("train", "evaluate", "compare", "check"):
        assert command in done.stdout


@pytest.mark.parametrize(
    "command", [["train", "sinusoid"], ["train", "omniglot"], ["train", "images"], ["evaluate"], ["compare"], ["check"]]
)
def test_every_option_is_explained(command):
    output = succeed(*command, "--help")
    options = re.findall(r"^  -.*$", output, re.MULTILINE)
    assert options
    for line in options:
        assert re.search(r"\w  +\w", line) or len(line.split()) <= 3, line


def test_help_stands_in_groups():
    output = succeed("--help")
    assert re.findall(r"^([A-Z].*):$", output, re.MULTILINE) == ["Options", *type(main).headings]
    assert re.search(r"^Look at what was learned:\n  evaluate  .*\n  compare  .*\n  lab  ", output, re.MULTILINE)
    output = succeed("train", "--help")
    assert re.search(r"^From rewards:\n(  \w+ +[A-Z].*\n)+", output, re.MULTILINE)
    assert all(re.search(rf"^  {name} ", output, re.MULTILINE) for name in PROBLEMS)
    output = succeed("train", "omniglot", "--help")
    sections = dict(re.findall(r"^(\w+) options:\n((?:  .*\n)+)", output, re.MULTILINE))
    assert list(sections) == ["Algorithm", "Tasks", "Training", "Evaluation", "Run"]
    for section, options in {
        "Algorithm": ("algorithm", "inner-lr", "cg-steps"),
        "Tasks": ("data", "ways", "shots", "train-ways"),
        "Training": ("iterations", "start", "patience"),
        "Evaluation": ("episodes", "evaluation-steps"),
        "Run": ("threads", "out", "resume", "help"),
    }.items():
        for option in options:
            assert [name for name, text in sections.items() if re.search(rf"--{option}\b(?!-)", text)] == [section]


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_option_of_a_problem_is_shown_once(name):
    output = succeed("train", name, "--help")
    for option in main.commands["train"].commands[name].params:
        assert len(re.findall(rf"^  {re.escape(option.opts[0])}[ \n]", output, re.MULTILINE)) == 1, option.name


def test_train_writes_a_run_folder_and_prints_scores(run):
    names = {path.name for path in run.iterdir()}
    assert names == {
        "config.json",
        "log.jsonl",
        "checkpoint.safetensors",
        "score.json",
        "learning_curve.png",
        "sinusoid.png",
    }
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in log] == list(range(1, 41))
    learner = fm.load(run / "checkpoint.safetensors", device="numpy")
    assert [line["loss"] for line in log] == learner.history["loss"].tolist()
    rows = json.loads((run / "score.json").read_text())["scores"]
    assert [(row["shots"], row["inner_steps"]) for row in rows] == [(k, s) for k in (10, 5) for s in (0, 1, 5, 10)]
    score = learner.evaluate(fm.tasks.Sinusoid(5, 100), 20, inner_steps=10, seed=1_000_003)
    assert (rows[-1]["mean"], rows[-1]["ci95"]) == (score.mean, score.ci95)


def test_evaluate_prints_what_training_printed(run):
    output = succeed("evaluate", run, "--device", "numpy")
    for row in json.loads((run / "score.json").read_text())["scores"]:
        assert row["text"] in output
    fewer = succeed("evaluate", run, "--device", "numpy", "--evaluation-steps", "0,2", "--episodes", 5)
    assert "on 5 new tasks" in fewer
    assert re.search(r"^shots +0 +2$", fewer, re.MULTILINE)


def test_the_seed_of_an_evaluation_decides_its_tasks(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    few = ["--device", "numpy", "--episodes", 6, "--evaluation-steps", 1]
    succeed("evaluate", copy, *few, "--seed", 5, "--save", "other")
    row = json.loads((copy / "other.json").read_text())["scores"][0]
    learner = fm.load(copy / "checkpoint.safetensors", device="numpy")
    score = learner.evaluate(fm.tasks.Sinusoid(10, 100), 6, inner_steps=1, seed=5)
    assert (row["values"], row["stream"]) == (score.values.tolist(), score.stream)


@pytest.mark.parametrize("command", [["train", "sinusoid", "--out"], ["evaluate"]])
def test_threads_are_those_asked_for(command, run, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    for name in ("FASTMETA_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    result = invoke(*command, run if command == ["evaluate"] else tmp_path / "run", "--threads", 3, "--device", "cpu")
    assert result.exit_code == 1
    assert "threads=3 must be between 1 and 2, the processors that this process may use." in result.output
    assert not (tmp_path / "run").exists()
    try:
        use_threads(1, "cpu")
        assert cpu.thread_count() == 1
    finally:
        cpu.use_threads(None)
    assert cpu.thread_count() <= 2


def test_training_is_that_of_the_library(run):
    learner = fm.MAML(fm.MLP((1, 40, 40, 1)), device="numpy")
    learner.fit(fm.tasks.Sinusoid(), iterations=40, optimizer=fm.Adam(1e-3))
    assert learner.theta.tobytes() == arrays(run)["theta"].tobytes()


def test_every_number_reaches_the_training(tmp_path):
    tasks = ["--shots", 3, "--queries", 4, "--tasks-per-step", 2, "--seed", 5, "--iterations", 2]
    rates = ["--learning-rate", 0.01, "--final-learning-rate", 0.001, "--inner-lr", 0.02, "--inner-steps", 2]
    succeed("train", "sinusoid", *tasks, *rates, "--out", tmp_path, *QUICK)
    learner = fm.MAML(fm.MLP((1, 40, 40, 1)), 0.02, 2, device="numpy")
    adam = fm.Adam(fm.CosineSchedule(0.01, 0.001, 2))
    learner.fit(fm.tasks.Sinusoid(3, 4), 2, tasks_per_step=2, optimizer=adam, seed=5)
    assert learner.theta.tobytes() == arrays(tmp_path)["theta"].tobytes()


def test_fomaml_and_seed_reach_the_learner(run, tmp_path):
    succeed("train", "sinusoid", "--iterations", 40, "--out", tmp_path / "a", "--algorithm", "fomaml", *QUICK)
    succeed("train", "sinusoid", "--iterations", 40, "--out", tmp_path / "b", "--seed", 1, *QUICK)
    assert isinstance(fm.load(tmp_path / "a" / "checkpoint.safetensors"), fm.FOMAML)
    thetas = [arrays(folder)["theta"] for folder in (run, tmp_path / "a", tmp_path / "b")]
    assert not any(np.array_equal(x, y) for x, y in itertools.pairwise(thetas))


def test_default_folder_is_named_after_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    succeed("train", "sinusoid", "--iterations", 1, "--shots", 3, *QUICK)
    assert (tmp_path / "runs" / "sinusoid-maml-3shot-seed0" / "score.json").is_file()


def test_resume_goes_on_to_more_iterations_with_the_same_bits(run, tmp_path):
    succeed("train", "sinusoid", "--iterations", 15, "--out", tmp_path, *QUICK)
    succeed("train", "sinusoid", "--iterations", 40, "--out", tmp_path, "--resume")
    assert_same_run(run, tmp_path)
    assert (
        json.loads((tmp_path / "score.json").read_text())["scores"]
        == json.loads((run / "score.json").read_text())["scores"]
    )


def test_ctrl_c_keeps_the_last_iteration(run, tmp_path, monkeypatch):
    step = run_module.Progress.step

    def interrupted(self, iteration, loss):
        step(self, iteration, loss)
        if iteration == 17:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_module.Progress, "step", interrupted)
        result = invoke("train", "sinusoid", "--iterations", 40, "--out", tmp_path, *QUICK)
    assert result.exit_code == 130
    assert "Stopped after iteration 17" in result.output
    assert f"--out {tmp_path} --resume" in result.output
    succeed("train", "sinusoid", "--out", tmp_path, "--resume")
    assert_same_run(run, tmp_path)


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_a_stopped_process_resumes_to_the_same_bits(tmp_path, stop):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    size = ["--iterations", 400, "--shots", 4]
    succeed("train", "sinusoid", *size, "--out", whole, *QUICK)
    running = process("train", "sinusoid", *size, "--out", stopped, *QUICK)
    log = stopped / "log.jsonl"
    deadline = time.monotonic() + 60
    while not log.exists() or log.read_bytes().count(b"\n") < 30:
        assert time.monotonic() < deadline
        assert running.poll() is None, running.communicate()
        time.sleep(0.005)
    running.send_signal(stop)
    running.communicate(timeout=60)
    assert running.returncode == (-signal.SIGKILL if stop == signal.SIGKILL else 130)
    assert log.read_bytes().count(b"\n") < 400
    assert not (stopped / "score.json").exists()
    succeed("train", "sinusoid", "--out", stopped, "--resume")
    assert_same_run(whole, stopped)


def test_without_a_terminal_progress_is_a_line_now_and_then(tmp_path, monkeypatch):
    monkeypatch.setattr("fastmeta.cli.progress.SECONDS_BETWEEN_LINES", 0.0)
    output = succeed("train", "sinusoid", "--iterations", 12, "--out", tmp_path, *QUICK)
    said = r"iteration 12 of 12: loss \d\.\d+, [\d,]+ tasks/s, 0\.0 s left, a checkpoint every [\d.]+ (s|min)"
    assert re.search(said, output)
    assert "\r" not in output


@pytest.mark.parametrize(("checkpoint_every", "said"), [(25, "50 s"), (3, "6.0 s"), (1000, "5 min")])
def test_progress_says_what_is_left_and_how_often_a_checkpoint_is_written(checkpoint_every, said, monkeypatch, capsys):
    """Two seconds an iteration of four tasks; the first iteration, which compiles, does not count."""
    clock = itertools.chain([0.0, 60.0], itertools.count(62.0, 2.0))
    monkeypatch.setattr("fastmeta.cli.progress.time.perf_counter", lambda: next(clock))
    with Progress(100, 4, checkpoint_every) as progress:
        for iteration in range(1, 12):
            progress.step(iteration, 0.5)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == f"iteration 7 of 100: loss 0.500, 2 tasks/s, 3 min left, a checkpoint every {said}"


def test_without_matplotlib_training_ends_well_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    output = succeed("train", "sinusoid", "--iterations", 1, "--out", tmp_path, *QUICK)
    assert 'pip install "fastmeta[plots]"' in output
    assert (tmp_path / "score.json").is_file()
    assert not list(tmp_path.glob("*.png"))


class Drawings:
    """In the place of Omniglot: 24 characters of random pixels in each part, and what it was asked for."""

    asked: ClassVar[list[tuple[object, ...]]] = []

    def __init__(self, data: object, ways: int, shots: int, queries: int, split: str) -> None:
        self.asked.append((data, ways, shots, queries, split))
        x = np.random.default_rng(0).random((24 * 20, 28, 28, 1), np.float32)
        self.train = self.test = fm.tasks.from_arrays(x, np.repeat(np.arange(24), 20), ways, shots, queries)


@pytest.mark.parametrize(
    ("options", "recipe"),
    [
        (
            ["--ways", 3, "--shots", 2],
            {"queries": 2, "tasks_per_step": 32, "inner_lr": 0.4, "inner_steps": 1},
        ),
        (
            ["--ways", 20, "--split", "vinyals", "--channels", 3],
            {"queries": 1, "tasks_per_step": 16, "inner_lr": 0.1, "inner_steps": 5, "split": "vinyals"},
        ),
        (["--downsample", "pool"], {"downsample": "pool", "queries": 1, "tasks_per_step": 32}),
    ],
)
def test_omniglot_trains_by_the_recipe_for_its_ways(tmp_path, monkeypatch, options, recipe):
    monkeypatch.setattr(fm.tasks, "Omniglot", Drawings)
    small = ["--channels", 2, "--iterations", 2, "--episodes", 3, "--device", "numpy", "--data", tmp_path]
    output = succeed("train", "omniglot", *small, *options, "--out", tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert {key: config[key] for key in recipe} == recipe
    assert Drawings.asked[-2:] == [
        (str(tmp_path), config["ways"], config["shots"], queries, config["split"]) for queries in (recipe["queries"], 1)
    ]
    net = fm.load(tmp_path / "run" / "checkpoint.safetensors", device="numpy").net
    assert (net.parameter_shapes["conv1.weight"][-1], net.outputs) == (config["channels"], config["ways"])
    assert any(isinstance(layer, fm.MaxPool2d) for layer in net.layers) == ("pool" in options)
    assert "batch norm transductive" in output
    assert re.search(r"\d+\.\d\d % ± \d", output)
    (row,) = json.loads((tmp_path / "run" / "score.json").read_text())["scores"]
    assert (row["inner_steps"], row["measure"]) == (3 if config["ways"] < 20 else 5, "accuracy")
    assert row["text"] in succeed("evaluate", tmp_path / "run", "--device", "numpy")


def test_transfer_pretrains_on_all_classes_and_is_evaluated_with_any_head(tmp_path, monkeypatch):
    monkeypatch.setattr(fm.tasks, "Omniglot", Drawings)
    small = ["--channels", 2, "--iterations", 2, "--episodes", 3, "--device", "numpy", "--data", tmp_path]
    output = succeed("train", "omniglot", *small, "--algorithm", "transfer", "--out", tmp_path / "run")
    assert "batch norm inductive" in output
    learner = fm.load(tmp_path / "run" / "checkpoint.safetensors", "numpy")
    assert (learner.net.outputs, learner.head) == (24, "linear")
    wide = ["--ways", 20, "--shots", 4, "--head", "centroid", "--save", "wide", "--device", "numpy"]
    assert "Omniglot, 20-way 4-shot" in succeed("evaluate", tmp_path / "run", *wide)
    (row,) = json.loads((tmp_path / "run" / "wide.json").read_text())["scores"]
    assert (row["ways"], row["shots"], row["algorithm"]) == (20, 4, "Transfer centroid")
    learner.head = "centroid"
    tasks = Drawings(None, 20, 4, 15, "maml").test
    assert row["values"] == learner.evaluate(tasks, 3, seed=1_000_003).values.tolist()


def test_anil_is_evaluated_and_exported_with_a_shared_head(tmp_path, monkeypatch):
    monkeypatch.setattr(fm.tasks, "Omniglot", Drawings)
    small = ["--channels", 2, "--iterations", 2, "--episodes", 3, "--device", "numpy", "--data", tmp_path]
    succeed("train", "omniglot", *small, "--algorithm", "anil", "--out", tmp_path / "run")
    succeed("evaluate", tmp_path / "run", "--share-head", "--save", "shared", "--device", "numpy")
    (row,) = json.loads((tmp_path / "run" / "shared.json").read_text())["scores"]
    assert row["algorithm"] == "ANIL shared head"
    learner = fm.load(tmp_path / "run" / "checkpoint.safetensors", "numpy")
    own = learner.theta
    tasks = Drawings(None, 5, 1, 15, "maml").test
    assert row["values"] == learner.share_head().evaluate(tasks, 3, inner_steps=5, seed=1_000_003).values.tolist()
    np.testing.assert_array_equal(fm.load(tmp_path / "run" / "checkpoint.safetensors", "numpy").theta, own)
    succeed("export", tmp_path / "run", "--share-head", "--out", tmp_path / "shared")
    fm.export(learner, tmp_path / "again", samples=5, loss=fm.CrossEntropy())
    written = [json.loads((tmp_path / name / "model.json").read_text())["sha256"] for name in ("shared", "again")]
    assert written[0] == written[1]


def test_images_are_trained_on_and_split_as_the_files_say(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.setenv("FASTMETA_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for part, names in {"train": "abc", "val": "de", "test": "fg"}.items():
        for name in names:
            folder = tmp_path / "data" / part / name
            folder.mkdir(parents=True)
            for i in range(17):
                pixels = rng.integers(0, 256, (20, 20, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    size = ["--ways", 2, "--channels", 2, "--image-size", 16, "--queries", 3, "--iterations", 2, "--episodes", 3]
    run = ["train", "images", "--data", tmp_path / "data", *size, "--device", "numpy"]
    output = succeed(*run, "--out", tmp_path / "maml")
    assert re.search(r"on images, 2-way 1-shot from .*data", output)
    part = ["--part", "validation", "--save", "validation", "--device", "numpy"]
    assert "2-way 1-shot" in succeed("evaluate", tmp_path / "maml", *part)
    (row,) = json.loads((tmp_path / "maml" / "validation.json").read_text())["scores"]
    tasks = fm.tasks.Images(tmp_path / "data", ways=2, shots=1, image_size=16)
    learner = fm.load(tmp_path / "maml" / "checkpoint.safetensors", device="numpy")
    assert learner.net.input_shape == (16, 16, 3)
    score = learner.evaluate(tasks.validation, 3, inner_steps=10, seed=1_000_003)
    assert (row["part"], row["values"], row["stream"]) == ("validation", score.values.tolist(), score.stream)
    succeed(*run, "--algorithm", "transfer", "--head", "cosine", "--out", tmp_path / "transfer")
    both = succeed("compare", tmp_path / "maml", tmp_path / "transfer", "--picture", tmp_path / "c.png")
    assert "Transfer cosine" in both
    assert "Batch norm differs" in both
    refused = invoke(*run[:3], tmp_path / "nowhere", "--out", tmp_path / "no")
    assert refused.exit_code == 1
    assert "must exist" in refused.output


def test_options_that_do_not_fit_the_learner(run, tmp_path):
    for option, message in (
        (["--head", "cosine"], 'head="cosine" must be left out: MAML has no head'),
        (["--share-head"], "share_head must be left out: MAML is not ANIL."),
        (["--ways", "3"], "ways=3 must be left out: sinusoid has no classes"),
    ):
        result = invoke("evaluate", run, *option, "--device", "numpy")
        assert result.exit_code == 1
        assert message in result.output
    result = invoke("train", "sinusoid", "--algorithm", "transfer", "--out", tmp_path / "no", *QUICK)
    assert result.exit_code == 1
    assert 'algorithm="transfer" must have classes' in result.output


def test_omniglot_trains_prototypes_with_more_ways_than_it_is_scored_on(tmp_path, monkeypatch):
    monkeypatch.setattr(fm.tasks, "Omniglot", Drawings)
    small = ["--channels", 2, "--iterations", 2, "--episodes", 3, "--device", "numpy", "--data", tmp_path]
    options = ["--algorithm", "protonet", "--train-ways", 11, "--metric", "cosine"]
    output = succeed("train", "omniglot", *small, *options, "--out", tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    wanted = {"ways": 5, "train_ways": 11, "queries": 5, "tasks_per_step": 1, "metric": "cosine", "learning_rate": 1e-3}
    assert {key: config[key] for key in wanted} == wanted
    assert "metric=cosine" in output
    learner = fm.load(tmp_path / "run" / "checkpoint.safetensors", device="numpy")
    assert learner.net.outputs == 2  # 28 x 28 pixels are pooled to one
    (row,) = json.loads((tmp_path / "run" / "score.json").read_text())["scores"]
    assert (row["inner_steps"], row["measure"]) == (None, "accuracy")
    assert row["text"] in succeed("evaluate", tmp_path / "run", "--device", "numpy")
    assert not {"evaluation_steps", "inner_lr", "head"} & config.keys()
    for option, value, shown in (("inner-lr", "0.1", "0.1"), ("evaluation-steps", "3", "(3,)")):
        failed = invoke("train", "omniglot", "--algorithm", "protonet", f"--{option}", value)
        assert failed.exit_code != 0
        refused = f"{option.replace('-', '_')}={shown} must be left out: --algorithm protonet has no --{option}."
        assert refused in failed.output
    failed = invoke("evaluate", tmp_path / "run", "--evaluation-steps", "3")
    assert "evaluation_steps=(3,) must be left out: ProtoNet takes no inner steps." in failed.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "Did you mean 'train'?"),
        (["train", "omniglott"], "Did you mean 'omniglot'?"),
        (["train", "sinusoid", "--iteration", "3"], "--iterations"),
        (
            ["train", "sinusoid", "--algorithm", "mmal"],
            'algorithm="mmal" must be one of "anil", "architecture-maml", "boil", ',
        ),
        (["train", "sinusoid", "--device", "gpu"], 'device="gpu" must be one of "cpu", "numpy"'),
        (["train", "sinusoid", "--shots", "0"], "shots=0 must be at least 1."),
        (["train", "sinusoid", "--shots", "2.5"], 'shots="2.5" must be a whole number.'),
        (["train", "sinusoid", "--seed", "-1"], "seed=-1 must be at least 0."),
        (["train", "sinusoid", "--inner-lr", "-0.1"], "inner_lr=-0.1 must be positive."),
        (["train", "sinusoid", "--inner-lr", "nan"], "inner_lr=nan must be finite."),
        (["train", "sinusoid", "--inner-lr", "big"], 'inner_lr="big" must be a number.'),
        (["train", "sinusoid", "--evaluation-steps", "5,1"], 'evaluation_steps="5,1" must rise'),
        (["train", "omniglot", "--ways", "1"], "ways=1 must be at least 2."),
        (["train", "omniglot", "--split", "vinyal"], 'Did you mean "vinyals"?'),
    ],
)
def test_bad_options_say_what_must_be(arguments, message):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_json_files_reach_the_disk_before_they_get_their_name(tmp_path, monkeypatch):
    events = disk_events(monkeypatch)
    RunFolder(tmp_path).write("score.json", {"scores": [1, 2]})
    found = (tmp_path / "score.json").stat()
    whole = found.st_ino, found.st_size
    assert events.index(("synced", *whole)) < events.index(("renamed", *whole))


def test_a_folder_with_a_run_is_never_overwritten(run):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    result = invoke("train", "sinusoid", "--out", run, *QUICK)
    assert result.exit_code == 1
    assert "must not hold a run yet. Add --resume to go on" in result.output
    assert before == {path.name: path.read_bytes() for path in run.iterdir()}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--shots", "4"], "shots=4 must be 10 as in"),
        (["--algorithm", "fomaml"], "algorithm=fomaml must be maml as in"),
        (["--iterations", "39"], "iterations=39 must be at least 40, which the run has done."),
    ],
)
def test_resume_refuses_other_settings(run, option, message):
    result = invoke("train", "sinusoid", "--out", run, "--resume", *option)
    assert result.exit_code == 1
    assert message in result.output


def test_a_run_that_is_not_there(tmp_path):
    for arguments in (
        ["train", "sinusoid", "--out", tmp_path / "no", "--resume"],
        ["evaluate", tmp_path / "no"],
    ):
        result = invoke(*arguments)
        assert result.exit_code == 1
        assert "must be a run folder, with a config.json" in result.output
    assert not (tmp_path / "no").exists()


def test_a_damaged_run(tmp_path):
    succeed("train", "sinusoid", "--iterations", 1, "--out", tmp_path, *QUICK)
    checkpoint = tmp_path / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    for arguments in (["evaluate", tmp_path], ["train", "sinusoid", "--out", tmp_path, "--resume"]):
        result = invoke(*arguments)
        assert result.exit_code == 1
        assert "must be a whole fastmeta checkpoint" in result.output
    (tmp_path / "config.json").write_text("{")
    assert "config.json must be JSON" in invoke("evaluate", tmp_path).output


def test_a_diverging_run_ends_with_one_line_and_keeps_its_checkpoint(tmp_path):
    options = ["--learning-rate", "1e20", "--iterations", 5, "--out", tmp_path]
    result = invoke("train", "sinusoid", *options, *QUICK)
    assert result.exit_code == 1
    assert "Iteration 2" in result.output
    assert "Traceback" not in result.output
    assert np.isfinite(arrays(tmp_path)["theta"]).all()


def test_sinusoids_have_no_other_part(run):
    result = invoke("evaluate", run, "--part", "validation", "--device", "numpy")
    assert result.exit_code == 1
    assert 'part="validation" must be "test"' in result.output


def test_check_agrees_and_prints_a_table(monkeypatch):
    for name in set(check_module.NETWORKS) - {"MLP tanh", "MLP relu"}:
        monkeypatch.delitem(check_module.NETWORKS, name)
    output = succeed("check", "--device", "numpy")
    assert output.count("  agrees\n") == 12 + len(check_module.POLICIES) * 5  # four losses and the Fisher product
    assert output.endswith("All agree.\n")
    assert re.search(r"^22 comparisons, about [\d.]+ (s|min)$", output, re.MULTILINE)
    assert re.search(r"^22 comparisons in [\d.]+ (s|min)$", output, re.MULTILINE)


def test_check_has_a_quick_form_and_says_how_much_is_left(monkeypatch):
    losses = {f"{policy} {surrogate}" for policy in check_module.POLICIES for surrogate in check_module.SURROGATES}
    assert set(check_module.QUICK) <= set(check_module.NETWORKS) | losses
    monkeypatch.delitem(check_module.NETWORKS, "Conv4 pool")
    monkeypatch.setattr(check_module, "SECONDS_BETWEEN_LINES", 0.0)
    output = succeed("check", "--quick", "--device", "numpy")
    rows = re.findall(r"^(\w+ \w+) +2  (\w[\w ]*?) +\d+ +\d+ .*  agrees$", output, re.MULTILINE)
    assert dict(rows) == {name: rates for name, rates in check_module.QUICK.items() if name != "Conv4 pool"}
    assert re.search(r"^7 comparisons, about [\d.]+ (s|min)$", output, re.MULTILINE)
    assert re.search(r"^6 of 7 compared, about [\d.]+ (s|min) left$", output, re.MULTILINE)


@pytest.mark.parametrize("name", ["MLP softplus", "MLP relu", "Conv4 stride"])
@pytest.mark.parametrize("order", [1, 2])
def test_a_check_takes_as_many_evaluations_as_its_time_is_told_by(name, order, monkeypatch):
    """Counts, not seconds, which depend on what else the machine does."""
    from fastmeta.lab import central_differences

    real, calls = central_differences._objective, []

    def counted(*arguments):
        found = real(*arguments)
        return lambda *values: (calls.append(1), found(*values))[1]

    monkeypatch.setattr(central_differences, "_objective", counted)
    network = check_module.NETWORKS[name]
    batch, theta = check_module.meta_batch(network, 0), network.init(0, dtype="float64")
    central_differences.check_meta_gradient(network, theta, batch, 0.05, 2, order, device="numpy", tolerance=np.inf)
    directions = 3 * (len(network.parameter_shapes) + 1)
    assert len(calls) == pytest.approx(central_differences.EVALUATIONS * directions, rel=0.5)


@pytest.mark.parametrize(("seconds", "said"), [(0.04, "0.0 s"), (9.4, "9.4 s"), (40.2, "40 s"), (200, "3 min")])
def test_durations_are_said_as_people_say_them(seconds, said):
    assert duration(seconds) == said
    assert duration(7500) == "2 h 5 min"


def test_check_fails_where_a_fisher_product_is_wrong(monkeypatch):
    from fastmeta_kernels import reference

    monkeypatch.setattr(check_module, "NETWORKS", {})
    right = reference.fisher
    monkeypatch.setattr(reference, "fisher", lambda *arguments: right(*arguments) * (1 + 1e-5))
    result = invoke("check", "--device", "numpy")
    assert result.exit_code == 1
    assert f"{len(check_module.POLICIES)} disagree." in result.output


def test_check_fails_where_a_gradient_is_wrong(monkeypatch):
    from fastmeta_kernels import reference

    for name in set(check_module.NETWORKS) - {"MLP tanh"}:
        monkeypatch.delitem(check_module.NETWORKS, name)
    right = reference.meta_gradient

    def wrong(*arguments, **options):
        result = right(*arguments, **options)
        return result._replace(gradient=result.gradient * (1 + 1e-5))

    monkeypatch.setattr(reference, "meta_gradient", wrong)
    result = invoke("check", "--device", "numpy")
    assert result.exit_code == 1
    assert "DISAGREES in linear" in result.output
    assert f"{6 + len(check_module.POLICIES) * 4} disagree." in result.output
