"""Every algorithm on the command line: its recipe, its own options, and a run that resumes to the same bits."""

from __future__ import annotations

import importlib
import json
import re
from typing import Annotated

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.cli import recipes
from fastmeta.cli.algorithms import ALGORITHMS
from fastmeta.cli.problems import PROBLEMS
from fastmeta.learning import checkpoint
from fastmeta.learning.learner import Learner
from fastmeta.learning.settings import Setting, arguments
from tests.cli.test_cli import QUICK, Drawings, arrays, assert_same_run, invoke, succeed

train_module = importlib.import_module("fastmeta.cli.train")  # fastmeta.cli.train itself is the command
NUDGE = Annotated[float, Setting(float, "A nudge.")]
INNER = [n for n, kind in ALGORITHMS.items() if PROBLEMS["sinusoid"].suits(kind)]


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
        ("protonet", 1, {"train_ways": 30, "tasks_per_step": 1, "inner_lr": None, "evaluation_steps": None}),
        ("protonet", 5, {"train_ways": 20, "metric": "euclidean", "learning_rate": 1e-3}),
        ("transfer", 5, {"tasks_per_step": 2, "inner_steps": None}),
    ],
)
def test_images_are_learned_by_the_recipes_for_miniimagenet(algorithm, shots, recipe):
    given = {"algorithm": algorithm, "shots": shots, "iterations": 60_000, "data": "folder"}
    found = recipes.recipe(PROBLEMS["images"], given)
    assert {name: found.get(name) for name in recipe} == recipe


class Sizes:
    """The ways and shots of each call that draws tasks, in order."""

    def __init__(self, monkeypatch, source):
        self.seen = []
        for name in {"sample", "several"} & vars(source).keys():
            monkeypatch.setattr(source, name, self._recorded(getattr(source, name)))

    def _recorded(self, draw):
        def recorded(tasks, *arguments, **options):
            self.seen.append((getattr(tasks, "ways", None), tasks.shots))
            return draw(tasks, *arguments, **options)

        return recorded


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
    assert config.get("multi_step_iterations") == (3 if algorithm == "maml++" else None)


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


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_run_stores_what_applies_to_it_and_nothing_else(problem, algorithm):
    kind, learner = PROBLEMS[problem], ALGORITHMS[algorithm]
    given = {"algorithm": algorithm} | ({"data": "folder"} if problem == "images" else {})
    if not kind.suits(learner):
        with pytest.raises(ValueError, match=f'algorithm="{re.escape(algorithm)}" must .*: {problem} has'):
            recipes.recipe(kind, given)
        return
    settings = recipes.recipe(kind, given)
    assert None not in settings.values()
    own = {name for name, argument in arguments(learner).items() if argument.default is not None}
    assert own <= settings.keys() <= recipes.applying(kind, learner).keys()
    others = {name for other in ALGORITHMS.values() for name in arguments(other)} - arguments(learner).keys()
    assert not others & settings.keys()


def test_options_and_their_help_are_those_of_the_constructors():
    for name, kind in PROBLEMS.items():
        text = " ".join(succeed("train", name, "--help").split())
        for word, learner in ALGORITHMS.items():
            for argument, (setting, _) in arguments(learner).items() if kind.suits(learner) else ():
                assert f"--{argument.replace('_', '-')} " in text, (name, word, argument)
                assert setting.text.rstrip(".") in text, (name, word, argument)
    assert "[default: 1, 5 from 20 ways on; anil, maml++ 5;" in " ".join(succeed("train", "omniglot", "--help").split())


def test_every_recipe_names_a_problem_and_its_settings():
    sizes = {name for kind in PROBLEMS.values() for name in kind.sizes}
    for learner in ALGORITHMS.values():
        assert learner.recipes.keys() <= {"", *PROBLEMS, *sizes}
        for name, recipe in learner.recipes.items():
            kinds = [kind for kind in PROBLEMS.values() if name in ("", kind.name, *kind.sizes)]
            assert all(recipe.keys() <= recipes.applying(kind, learner).keys() for kind in kinds)


def test_a_run_of_an_older_version_is_evaluated_and_goes_on(tmp_path):
    """It stored a null for each setting that it did not have, and the head of another algorithm."""
    for name, iterations in (("old", 3), ("new", 6)):
        few = ["--iterations", iterations, "--algorithm", "imaml", "--inner-steps", 2, "--episodes", 2]
        succeed("train", "sinusoid", *few, "--device", "numpy", "--out", tmp_path / name)
    path = tmp_path / "old" / "config.json"
    config = json.loads(path.read_text())
    absent = ("final_learning_rate", "inner_batch", "train_shots", "train_ways", "metric", "batch_norm", "step_norms")
    for name in ("scale", "cg_damping", "proximal", "evaluation_queries"):
        config.pop(name, None)
    path.write_text(json.dumps(config | dict.fromkeys(absent) | {"cg_damping": None, "proximal": None}))
    assert "iMAML" in succeed("evaluate", tmp_path / "old", "--device", "numpy")
    succeed("train", "sinusoid", "--out", tmp_path / "old", "--resume", "--iterations", 6)
    assert_same_run(tmp_path / "old", tmp_path / "new")


def test_a_new_algorithm_is_an_option_without_an_edit(monkeypatch):
    class Named(fm.MAML):
        """MAML of another name."""

        def __init__(self, net, nudge: NUDGE = 0.5, device="cpu"):
            super().__init__(net, device=device)
            self.nudge = nudge

    Named.recipes = {"sinusoid": {"nudge": 0.25}}
    monkeypatch.setitem(ALGORITHMS, Named.word, Named)
    kind = PROBLEMS["sinusoid"]
    (option,) = [o for o in train_module.command(kind).params if o.name == "nudge"]
    assert option.help == "A nudge (named).  [default: 0.25]"
    settings = recipes.recipe(kind, {"algorithm": "named"})
    assert settings["nudge"] == 0.25
    assert recipes.new_learner(settings, fm.MLP((1, 4, 1))).nudge == 0.25


@pytest.mark.parametrize("problem", PROBLEMS)
def test_help_shows_the_algorithms_that_suit_and_errors_name_them(problem):
    suited = [word for word, kind in ALGORITHMS.items() if PROBLEMS[problem].suits(kind)]
    shown = "".join(succeed("train", problem, "--help").split())
    assert f"--algorithm{'|'.join(suited)}" in shown
    other = next(word for word in ALGORITHMS if word not in suited)
    refused = invoke("train", problem, "--algorithm", other)
    assert refused.exit_code == 1
    assert f"Use one of {', '.join(suited)}." in refused.output
