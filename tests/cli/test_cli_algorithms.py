"""Every algorithm on the command line: its recipe, its own options, and a run that resumes to the same bits."""

from __future__ import annotations

import json

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.cli import recipes
from fastmeta.cli.problems.problem import ALGORITHMS
from fastmeta.learning import checkpoint
from fastmeta.learning.learner import Learner
from tests.cli.test_cli import QUICK, Drawings, arrays, assert_same_run, invoke, succeed

INNER = [name for name in ALGORITHMS if name not in ("transfer", "protonet")]


@pytest.mark.parametrize("algorithm", INNER)
def test_sinusoid_run_resumes_to_the_same_bits(algorithm, tmp_path, monkeypatch):
    """Stopped behind the fifth of eight iterations."""
    options = ["--algorithm", algorithm, "--iterations", 8, "--episodes", 4, "--device", "numpy"]
    succeed("train", "sinusoid", *options, "--out", tmp_path / "straight")
    fit = Learner._iterate

    def stopped(self, tasks, optimizer):
        if self.training.step == 5:
            raise KeyboardInterrupt
        return fit(self, tasks, optimizer)

    monkeypatch.setattr(Learner, "_iterate", stopped)
    assert invoke("train", "sinusoid", *options, "--out", tmp_path / "resumed").exit_code == 130
    monkeypatch.undo()
    succeed("train", "sinusoid", "--out", tmp_path / "resumed", "--resume")
    assert_same_run(tmp_path / "straight", tmp_path / "resumed")
    if algorithm in ("reptile", "maml++"):  # their rate falls over the iterations: refused, and nothing is changed
        again = ["train", "sinusoid", "--out", tmp_path / "resumed", "--resume"]
        refused = invoke(*again, "--iterations", 9)
        assert refused.exit_code == 1
        assert "iterations=9 must be what the run began with" in refused.output
        succeed(*again)
    learner = fm.load(tmp_path / "straight" / "checkpoint.safetensors", device="numpy")
    assert type(learner) is ALGORITHMS[algorithm]
    assert type(learner).__name__ in succeed("evaluate", tmp_path / "straight", "--device", "numpy")


@pytest.mark.parametrize(
    ("options", "recipe", "outer"),
    [
        (["anil"], {"inner_lr": 0.4, "inner_steps": 5, "tasks_per_step": 32, "evaluation_steps": [5]}, "Adam"),
        (["boil"], {"inner_lr": 0.4, "inner_steps": 1, "tasks_per_step": 32, "evaluation_steps": [3]}, "Adam"),
        (["meta-sgd"], {"inner_lr": 0.1, "inner_steps": 1, "evaluation_steps": [1]}, "Adam"),
        (
            ["maml++", "--first-order-iterations", 1, "--running-statistics", "--batch-norm", "running"],
            {"inner_lr": 0.1, "inner_steps": 5, "tasks_per_step": 8, "multi_step_iterations": 0},
            "CosineSchedule",
        ),
        (["reptile"], {"inner_lr": 1e-3, "inner_steps": 5, "inner_batch": 10, "train_shots": 10}, "LinearSchedule"),
        (
            ["reptile", "--ways", 20, "--train-shots", 3],
            {"inner_lr": 5e-4, "inner_steps": 10, "inner_batch": 20, "train_shots": 3, "evaluation_steps": [50]},
            "LinearSchedule",
        ),
        (["imaml"], {"inner_lr": 0.1, "inner_steps": 16, "regularization": 2.0, "cg_steps": 5}, "Adam"),
        (["imaml"], {"cg_damping": 22.0, "proximal": "after"}, "Adam"),
        (["imaml", "--cg-damping", 0, "--proximal", "inner"], {"cg_damping": 0.0, "proximal": "inner"}, "Adam"),
        (["fomaml", "--final-learning-rate", "1e-5"], {"learning_rate": 1e-3, "final_learning_rate": 1e-5}, "Cosine"),
        (["reptile", "--final-learning-rate", "0.1"], {"learning_rate": 1.0, "final_learning_rate": 0.1}, "Cosine"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_omniglot_trains_by_the_algorithms_recipe(tmp_path, monkeypatch, options, recipe, outer):
    monkeypatch.setattr(fm.tasks, "Omniglot", Drawings)
    small = ["--channels", 2, "--iterations", 2, "--episodes", 2, "--device", "numpy", "--data", tmp_path]
    output = succeed("train", "omniglot", "--algorithm", *options, *small, "--out", tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert {key: config[key] for key in recipe} == recipe
    learner = fm.load(tmp_path / "run" / "checkpoint.safetensors", device="numpy")
    assert outer in json.dumps(learner._settings["optimizer"])
    assert f"batch norm {'running' if 'running' in options else 'transductive'}" in output
    if "running" in options:
        assert arrays(tmp_path / "run")["statistics"].shape == (6, 2, 8)
        assert "batch norm support" in succeed(
            "evaluate", tmp_path / "run", "--device", "numpy", "--batch-norm", "support"
        )


@pytest.mark.parametrize(
    ("algorithm", "shots", "recipe"),
    [
        ("maml", 1, {"tasks_per_step": 4, "inner_lr": 0.01, "inner_steps": 5, "evaluation_steps": (10,)}),
        ("fomaml", 5, {"tasks_per_step": 2, "inner_lr": 0.01, "inner_steps": 5, "evaluation_steps": (10,)}),
        ("meta-sgd", 1, {"inner_steps": 1, "evaluation_steps": (1,)}),
        ("maml++", 1, {"tasks_per_step": 2, "evaluation_steps": (5,), "multi_step_iterations": 6000}),
        (
            "reptile",
            5,
            {"inner_lr": 1e-3, "inner_steps": 8, "inner_batch": 10, "train_shots": 15, "learning_rate": 1.0},
        ),
        ("imaml", 1, {"inner_lr": 0.1, "inner_steps": 10, "regularization": 0.5, "cg_steps": 5}),
        ("protonet", 1, {"train_ways": 30, "tasks_per_step": 1, "inner_lr": None, "evaluation_steps": ()}),
        ("protonet", 5, {"train_ways": 20, "metric": "euclidean", "learning_rate": 1e-3}),
        ("transfer", 5, {"tasks_per_step": 2, "inner_steps": None}),
    ],
)
def test_images_are_learned_by_the_recipes_for_miniimagenet(algorithm, shots, recipe):
    given = {"algorithm": algorithm, "shots": shots, "iterations": 60_000}
    found = recipes.images(dict.fromkeys(recipe) | given)
    assert {name: found[name] for name in recipe} == recipe


class Sizes:
    """The ways and shots of each call of `sample`, in order."""

    def __init__(self, monkeypatch, source):
        self.seen, sample = [], source.sample

        def recorded(tasks, *arguments, **options):
            self.seen.append((getattr(tasks, "ways", None), tasks.shots))
            return sample(tasks, *arguments, **options)

        monkeypatch.setattr(source, "sample", recorded)


def test_training_takes_the_ways_and_shots_of_training(tmp_path, monkeypatch):
    """They are those of training alone: evaluation has its own."""
    few = ["--iterations", 1, "--episodes", 2, "--device", "numpy"]
    sine = Sizes(monkeypatch, fm.tasks.Sinusoid)
    curves = ["sinusoid", "--algorithm", "reptile", "--shots", 4, "--train-shots", 7]
    succeed("train", *curves, *few, "--out", tmp_path / "sinusoid")
    assert sine.seen[0] == (None, 7)
    assert (None, 4) in sine.seen[1:]
    monkeypatch.setattr(fm.tasks, "Omniglot", Drawings)
    classes = Sizes(monkeypatch, fm.tasks.LabelledTasks)
    drawings = ["omniglot", "--algorithm", "protonet", "--train-ways", 11, "--train-shots", 3, "--channels", 2]
    succeed("train", *drawings, *few, "--out", tmp_path / "omniglot")
    assert classes.seen[0] == (11, 3)
    assert classes.seen[-1] == (5, 1)


@pytest.mark.parametrize(
    ("algorithm", "outer"),
    [
        ("maml", fm.Adam(1e-3)),
        ("maml++", fm.Adam(fm.CosineSchedule(1e-3, 1e-5, 30))),
        ("reptile", fm.SGD(fm.LinearSchedule(1.0, 0.0, 30))),
    ],
)
def test_the_outer_optimizer_is_that_of_the_paper(algorithm, outer, tmp_path):
    few = ["--iterations", 30, "--episodes", 2, "--device", "numpy", "--tasks-per-step", 1]
    succeed("train", "sinusoid", "--algorithm", algorithm, *few, "--out", tmp_path / "run")
    assert checkpoint.read(tmp_path / "run" / "checkpoint.safetensors").settings["optimizer"] == outer.to_dict()
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["multi_step_iterations"] == (3 if algorithm == "maml++" else None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["maml", "--cg-steps", 3], "cg_steps=3 must be left out: --algorithm maml has no --cg-steps."),
        (["meta-sgd", "--learn-inner-lr"], "learn_inner_lr=True must be left out: --algorithm meta-sgd has no"),
        (["imaml", "--train-shots", 3], "train_shots=3 must be left out: --algorithm imaml has no --train-shots."),
        (["maml++", "--step-norms"], "step_norms=True must come with a network that has batch norm."),
        (["reptile", "--inner-optimizer", "adm"], 'Did you mean "adam"?'),
        (["imaml", "--proximal", "inside"], 'proximal="inside" must be one of "inner", "after".'),
        (["imaml", "--cg-damping", "-1"], "cg_damping=-1.0 must be at least 0."),
        (["maml", "--cg-damping", 1], "cg_damping=1.0 must be left out: --algorithm maml has no --cg-damping."),
        (["maml", "--batch-norm", "support"], 'batch_norm="support" must be left out'),
    ],
)
def test_options_that_make_no_sense(tmp_path, options, message):
    result = invoke("train", "sinusoid", "--algorithm", *options, "--iterations", 1, "--out", tmp_path, *QUICK)
    assert result.exit_code != 0
    assert message in result.output
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_test_part_with_too_few_classes_is_said_before_any_training(tmp_path):
    for part, classes in (("train", 6), ("test", 3)):
        x = np.zeros((20 * classes, 16, 16, 1), np.uint8)
        np.savez(tmp_path / f"{part}.npz", x=x, y=[f"{part} {k}" for k in np.repeat(np.arange(classes), 20)])
    options = ["--data", tmp_path, "--image-size", 16, "--channels", 2, "--iterations", 1, "--device", "numpy"]
    result = invoke("train", "images", *options, "--ways", 4, "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert "ways=4 must be at most 3" in result.output
    assert not (tmp_path / "run").exists()


def test_batch_norm_that_is_not_there_is_said_before_any_training(tmp_path, monkeypatch):
    monkeypatch.setattr(fm.tasks, "Omniglot", Drawings)
    small = ["--channels", 2, "--episodes", 2, "--device", "numpy", "--data", tmp_path, "--batch-norm", "running"]
    for algorithm, message in (
        ("maml++", 'batch_norm="running" must come with a learner trained with running_statistics=True'),
        ("fomaml", 'batch_norm="running" must be one of "transductive", "support"'),
        ("transfer", 'batch_norm="running" must be left out: Transfer has one mode only.'),
    ):
        result = invoke("train", "omniglot", "--algorithm", algorithm, *small, "--out", tmp_path / "run")
        assert message in result.output
        assert not (tmp_path / "run").exists()
