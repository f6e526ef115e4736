"""What each algorithm trains with where the command line does not say: its paper's values, or the nearest to them."""

from __future__ import annotations

import inspect
from typing import Any

import fastmeta as fm
from fastmeta.cli.problems.problem import ALGORITHMS, OWN_OPTIONS, Settings
from fastmeta.learning.gradient_learner import GradientLearner
from fastmeta.learning.optimizers import Optimizer

SINUSOID: dict[str, Settings] = {
    "maml": {},
    "fomaml": {},
    "anil": {"inner_lr": 0.05, "inner_steps": 5},
    "boil": {},
    "meta-sgd": {},
    "maml++": {"inner_steps": 5},
    "reptile": {"inner_lr": 0.02, "inner_steps": 8, "inner_optimizer": "sgd", "evaluation_steps": (0, 1, 5, 10, 32)},
    "imaml": {"inner_steps": 16, "regularization": 0.5, "cg_steps": 5, "evaluation_steps": (0, 5, 16)},
}

TASK_OPTIONS = {"reptile": ("train_shots",), "protonet": ("train_shots", "train_ways")}  # what not only the learner has


def sinusoid(options: Settings) -> Settings:
    """arXiv 1703.03400, section 5.1; the others as far as their papers go, which are about images."""
    base = {"tasks_per_step": 25, "inner_lr": 0.01, "inner_steps": 1, "evaluation_steps": (0, 1, 5, 10)}
    return _recipe(options, base, SINUSOID)


def omniglot(options: Settings) -> Settings:
    """arXiv 1703.03400, 1803.02999, 1810.09502, 1909.04630 and the authors' code; in 20 ways as there."""
    few = options["ways"] < 20
    base = {
        "queries": options["shots"],
        "tasks_per_step": 32 if few else 16,
        "inner_lr": 0.4 if few else 0.1,
        "inner_steps": 1 if few else 5,
        "evaluation_steps": (3,) if few else (5,),
    }
    reptile = {
        "tasks_per_step": 5,
        "inner_lr": 1e-3 if few else 5e-4,
        "inner_steps": 5 if few else 10,
        "inner_batch": 10 if few else 20,
        "train_shots": 10,
        "evaluation_steps": (50,),
    }
    implicit: Settings = {"inner_lr": 0.1, "inner_steps": 16 if few else 25, "regularization": 2.0, "cg_steps": 5}
    implicit |= {"cg_damping": 22.0, "proximal": "after"}  # the authors' program, not the paper's equations
    algorithms: dict[str, Settings] = {
        "anil": {"inner_steps": 5, "evaluation_steps": (5,)},
        "meta-sgd": {"inner_lr": 0.1, "inner_steps": 1, "evaluation_steps": (1,)},
        "maml++": {"tasks_per_step": 8, "inner_lr": 0.1, "inner_steps": 5, "evaluation_steps": (5,)},
        "reptile": reptile,
        "imaml": implicit | {"evaluation_steps": (16 if few else 25,)},
        "protonet": {"tasks_per_step": 1, "queries": 5, "train_ways": 60, "metric": "euclidean"},
        "transfer": {"tasks_per_step": 2},
    }
    return _recipe(options, base, algorithms)


def images(options: Settings) -> Settings:
    """The papers' recipes for miniImageNet."""
    few = options["shots"] < 5
    base = {"tasks_per_step": 4 if few else 2, "inner_lr": 0.01, "inner_steps": 5, "evaluation_steps": (10,)}
    reptile = {"tasks_per_step": 5, "inner_lr": 1e-3, "inner_steps": 8, "inner_batch": 10, "train_shots": 15}
    algorithms: dict[str, Settings] = {
        "meta-sgd": {"inner_steps": 1, "evaluation_steps": (1,)},
        "maml++": {"tasks_per_step": 2, "evaluation_steps": (5,)},
        "reptile": reptile | {"evaluation_steps": (50,)},
        "imaml": {"inner_lr": 0.1, "inner_steps": 10, "regularization": 0.5, "cg_steps": 5},
        "protonet": {"tasks_per_step": 1, "train_ways": 20 if not few else 30, "metric": "euclidean"},
        "transfer": {"tasks_per_step": 2},
    }
    return _recipe(options, base, algorithms)


def optimizer(settings: Settings) -> Optimizer:
    """Adam; along a cosine for MAML++, halved after each 2,000 updates for ProtoNet; for Reptile SGD in a line to 0.

    A run's `final_learning_rate` stands for the end of a cosine in their place.
    """
    rate, steps = settings["learning_rate"], max(settings["iterations"], 1)
    final = settings.get("final_learning_rate")
    if settings["algorithm"] == "maml++":
        final = final or rate / 100
    if settings["algorithm"] == "reptile":
        return fm.SGD(fm.CosineSchedule(rate, final, steps) if final else fm.LinearSchedule(rate, 0.0, steps))
    if final:
        return fm.Adam(fm.CosineSchedule(rate, final, steps))
    return fm.Adam(fm.StepSchedule(rate, 0.5, 2000) if settings["algorithm"] == "protonet" else rate)


def _recipe(options: Settings, base: Settings, algorithms: dict[str, Settings]) -> Settings:
    """`options`, where one is None the algorithm's value, or the problem's; ValueError for an option it lacks."""
    name = options["algorithm"]
    known = set(inspect.signature(ALGORITHMS[name]).parameters)
    known |= {"evaluation_steps"} if issubclass(ALGORITHMS[name], GradientLearner) else set()
    for option in (*OWN_OPTIONS, "evaluation_steps"):
        if options.get(option) is not None and option not in known and option not in TASK_OPTIONS.get(name, ()):
            shown = option.replace("_", "-")
            raise ValueError(f"{option}={options[option]} must be left out: --algorithm {name} has no --{shown}.")
    base = {key: value for key, value in base.items() if key in known or key not in OWN_OPTIONS}
    recipe: dict[str, Any] = {"learning_rate": 1.0 if name == "reptile" else 1e-3} | base | algorithms.get(name, {})
    if "evaluation_steps" not in known:
        recipe["evaluation_steps"] = ()
    if name == "maml++":
        recipe["multi_step_iterations"] = options["iterations"] // 10  # the first 10 of 100 epochs
    return {key: recipe.get(key) if value is None else value for key, value in options.items()}
