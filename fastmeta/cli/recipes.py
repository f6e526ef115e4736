"""The settings of a run: which apply to a problem and an algorithm, and what they are where nobody says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import fastmeta as fm
from fastmeta.cli.algorithms import ALGORITHMS, BATCH_NORMS
from fastmeta.cli.problems.problem import Problem, Settings
from fastmeta.device import DEVICES
from fastmeta.learning.gradient_learner import GradientLearner
from fastmeta.learning.learner import Learner
from fastmeta.learning.optimizers import Optimizer
from fastmeta.learning.settings import Setting, Share, arguments
from fastmeta.rl.learner import PolicyLearner
from fastmeta.rl.trust_region import TrustRegion

STEPPING = (GradientLearner, PolicyLearner)  # whose tasks take inner steps
EVERY_RUN = {
    "algorithm": Setting(tuple(ALGORITHMS), "What learns. Values that are left out are those of its paper."),
    "shots": Setting(int, "Samples that a task is learned from; of each class, where there are classes."),
    "queries": Setting(int, "Other samples, on which its loss is taken; likewise."),
    "iterations": Setting(int, "Meta-updates."),
    "tasks_per_step": Setting(int, "Tasks in one meta-update."),
    "learning_rate": Setting(float, "Rate of the meta-updates; where the paper lets it fall, the first."),
    "final_learning_rate": Setting(float, "Where that rate ends instead, along a cosine over the iterations."),
    "episodes": Setting(int, "New tasks to evaluate on."),
    "evaluation_queries": Setting(int, "Samples that their score is taken on; likewise."),
    "validate_every": Setting(int, "Iterations between two scores on validation tasks, of which the best is kept."),
    "patience": Setting(int, "Such scores in a row, none of them better, that end the training."),
    "start": Setting(str, "Folder of a run, or its checkpoint: begin with all that it learned."),
    "batch_norm": Setting(BATCH_NORMS, "Whose statistics at evaluation, where they are not those of training."),
    "seed": Setting(int, "Decides the first parameters and the training tasks.", 0),
    "device": Setting(DEVICES, "cpu: compiled and parallel. numpy: the slow reference. cuda: an NVIDIA GPU."),
}
EVALUATION_STEPS = Setting(tuple, "Inner steps at evaluation; several as in 0,1,5,10.", 0)
TRAINING_SIZES = {
    "ways": Setting(int, "Ways in training, where they are not those of evaluation.", 2),
    "shots": Setting(int, "Shots in training, where they are not those of evaluation."),
}
DEFAULTS: Settings = {"learning_rate": 1e-3, "seed": 0, "device": "cpu"}


def applying(problem: type[Problem], algorithm: type[Learner]) -> dict[str, Setting]:
    """The settings that a run of this problem and algorithm has, by name."""
    inner = {"evaluation_steps": EVALUATION_STEPS} if issubclass(algorithm, STEPPING) else {}
    sizes = {f"train_{size}": TRAINING_SIZES[size] for size in algorithm.training_sizes}
    every = {name: setting for name, setting in EVERY_RUN.items() if name not in problem.without}
    own = {name: argument.setting for name, argument in arguments(algorithm).items()}
    return problem.options | every | problem.options | own | inner | sizes


def recipe(problem: type[Problem], given: Settings) -> Settings:
    """Every setting that applies and has a value: the given one, the algorithm's, the problem's or the constructor's.

    Raises ValueError for one that is given and does not apply.
    """
    word: str = given.get("algorithm", problem.usual)
    algorithm = ALGORITHMS[word]
    if not problem.suits(algorithm):
        others = ", ".join(other for other, kind in ALGORITHMS.items() if problem.suits(kind))
        raise ValueError(f'algorithm="{word}" must {_unsuited(problem, algorithm)}. Use one of {others}.')
    known = applying(problem, algorithm)
    for name in given:
        if name not in known:
            shown = name.replace("_", "-")
            raise ValueError(f"{name}={given[name]} must be left out: --algorithm {word} has no --{shown}.")
    found = _unsaid(problem, algorithm, given) | given
    for name, value in found.items():
        if isinstance(value, Share):
            found[name] = found[value.setting] // value.of
    return {name: found[name] for name in known if found.get(name) is not None}


def unsaid_in_words(problem: type[Problem], name: str) -> str:
    """What a setting is where it is not given: "1; anil 5", or "" where it then has no value."""
    texts: dict[str, list[str]] = {}
    for word, algorithm in ALGORITHMS.items():
        if problem.suits(algorithm) and name in applying(problem, algorithm):
            usual = _shown(_unsaid(problem, algorithm, {}).get(name))
            for size, least in problem.sizes.values():
                from_there = _shown(_unsaid(problem, algorithm, {size: least}).get(name))
                usual += f", {from_there} from {least} {size} on" if from_there != usual else ""
            texts.setdefault(usual, []).append(word)
    groups = sorted(texts.items(), key=lambda group: problem.usual not in group[1])
    alone = len(texts) == 1
    return "; ".join(t if alone or problem.usual in words else f"{', '.join(words)} {t}" for t, words in groups if t)


def new_learner(settings: Settings, network: fm.Network) -> Learner:
    """The untrained learner that a run's settings name, with those of them that it takes."""
    algorithm = ALGORITHMS[settings["algorithm"]]
    chosen = {name: settings[name] for name in arguments(algorithm) if settings.get(name) is not None}
    return algorithm(network, **chosen, device=settings["device"])


def optimizer(learner: Learner, settings: Settings) -> Optimizer:
    """The optimizer of the algorithm's paper, to a final rate along a cosine where the run names one."""
    rate, iterations = settings["learning_rate"], settings["iterations"]
    found, final = learner.paper_optimizer(rate, iterations), settings.get("final_learning_rate")
    if isinstance(found, TrustRegion):
        return replace(found, max_kl=settings["max_kl"], curvature_share=settings["curvature_share"])
    return replace(found, learning_rate=fm.CosineSchedule(rate, final, max(iterations, 1))) if final else found


def _unsuited(problem: type[Problem], algorithm: type[Learner]) -> str:
    """What an algorithm must, that cannot learn a problem."""
    if algorithm.network_outputs == "policy":
        return f"have a world of rewards: {problem.name} has none"
    if not problem.has_targets:
        return f"learn policies: {problem.name} has rewards and no targets"
    return f"have classes: {problem.name} has none"


def _unsaid(problem: type[Problem], algorithm: type[Learner], given: Settings) -> Settings:
    """What nobody gave, for tasks of the given sizes: by the constructor, the problem and the algorithm's paper."""
    found = {name: argument.default for name, argument in arguments(algorithm).items()} | DEFAULTS
    found["algorithm"] = problem.usual
    usual = problem.recipes[problem.name] | given
    larger = [name for name, (size, least) in problem.sizes.items() if usual[size] >= least]
    for recipes in (problem.recipes, algorithm.recipes):
        for name in ("", problem.name, *larger):
            found |= recipes.get(name, {})
    return found


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple) and not isinstance(value, Share):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else f"{value}"
