"""Learners to export, one of each kind, trained for a moment; and what `export` is told of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

import fastmeta as fm

SINE = fm.tasks.Sinusoid(shots=10, queries=5)


@cache
def images(size: int = 28, ways: int = 5) -> Any:
    rng = np.random.default_rng(0)
    centres = rng.random((20, size, size, 1))
    x = np.repeat(centres, 6, axis=0) + 0.2 * rng.standard_normal((120, size, size, 1))
    return fm.tasks.from_arrays(x.astype(np.float32), np.repeat(np.arange(20), 6), ways, shots=1, queries=3)


@cache
def vectors(ways: int = 3) -> Any:
    rng = np.random.default_rng(0)
    x = np.repeat(rng.standard_normal((12, 6)), 20, axis=0) + 0.3 * rng.standard_normal((240, 6))
    return fm.tasks.from_arrays(x.astype(np.float32), np.repeat(np.arange(12), 20), ways, shots=2, queries=4)


def fitted(learner: Any, tasks: Any, iterations: int = 3) -> Any:
    return learner.fit(tasks, iterations, tasks_per_step=2)


def mlp(activation: str = "relu") -> Any:
    return fm.MLP((6, 16, 3), activation)


def small(outputs: int | None = 3) -> Any:
    return fm.Conv4((12, 12, 1), 4, outputs)


NUMPY = {"device": "numpy"}
LABELS = {"loss": fm.CrossEntropy()}
Made = tuple[Callable[[], Any], dict[str, Any]]
MODELS: dict[str, Made] = {
    "sine": (lambda: fitted(fm.MAML(fm.MLP((1, 40, 40, 1)), 0.01, 5, **NUMPY), SINE, 20), {"samples": 10}),
    "digits": (lambda: fitted(fm.MAML(fm.Conv4((28, 28, 1), 16), 0.1, 3, **NUMPY), images()), {"samples": 5} | LABELS),
    "digits_int8": (
        lambda: fitted(fm.MAML(fm.Conv4((28, 28, 1), 16), 0.1, 3, **NUMPY), images()),
        {"samples": 5, "store": "int8"} | LABELS,
    ),
    "pooled": (
        lambda: fitted(fm.MAML(fm.Conv4((28, 28, 1), 8, 5, "pool"), 0.1, 3, **NUMPY), images()),
        {"samples": 5} | LABELS,
    ),
    "transductive": (
        lambda: fitted(fm.MAML(small(), 0.1, 2, **NUMPY), images(12, 3)),
        {"samples": 6, "batch_norm": "transductive"} | LABELS,
    ),
    "smooth": (lambda: fitted(fm.MAML(mlp("tanh"), 0.1, 3, **NUMPY), vectors()), {"samples": 6} | LABELS),
    "layer_norm": (
        lambda: fitted(
            fm.MAML(fm.Network([fm.Linear(8), fm.LayerNorm(), fm.Tanh(), fm.Linear(3)], 6), 0.1, 3, **NUMPY), vectors()
        ),
        {"samples": 6} | LABELS,
    ),
    "softened": (lambda: fitted(fm.MAML(mlp("softplus"), 0.1, 3, **NUMPY), vectors()), {"samples": 6} | LABELS),
    "rates": (
        lambda: fitted(fm.MAML(mlp(), np.full((3, 4), 0.1), 3, learn_inner_lr=True, **NUMPY), vectors()),
        {"samples": 6} | LABELS,
    ),
    "meta_sgd": (lambda: fitted(fm.MetaSGD(mlp("tanh"), 0.1, 2, **NUMPY), vectors()), {"samples": 6} | LABELS),
    "plus_plus": (lambda: fitted(fm.MAMLPlusPlus(small(), 0.1, 3, **NUMPY), images(12, 3)), {"samples": 6} | LABELS),
    "running": (
        lambda: fitted(fm.MAMLPlusPlus(small(), 0.1, 3, running_statistics=True, **NUMPY), images(12, 3)),
        {"samples": 6, "batch_norm": "running"} | LABELS,
    ),
    "anil": (lambda: fitted(fm.ANIL(small(), 0.1, 5, **NUMPY), images(12, 3)), {"samples": 6} | LABELS),
    "anil_int8": (
        lambda: fitted(fm.ANIL(small(), 0.1, 5, **NUMPY), images(12, 3)),
        {"samples": 6, "store": "int8"} | LABELS,
    ),
    "anil_vectors": (lambda: fitted(fm.ANIL(mlp("tanh"), 0.1, 5, **NUMPY), vectors()), {"samples": 6} | LABELS),
    "boil": (lambda: fitted(fm.BOIL(small(), 0.1, 3, **NUMPY), images(12, 3)), {"samples": 6} | LABELS),
    "boil_int8": (
        lambda: fitted(fm.BOIL(mlp("tanh"), 0.1, 3, **NUMPY), vectors()),
        {"samples": 6, "store": "int8"} | LABELS,
    ),
    "reptile": (
        lambda: fitted(fm.Reptile(mlp("tanh"), 0.1, 4, 4, "sgd", **NUMPY), vectors()),
        {"samples": 9} | LABELS,
    ),
    "reptile_norm": (
        lambda: fitted(fm.Reptile(small(), 0.1, 4, 4, "sgd", **NUMPY), images(12, 3)),
        {"samples": 9} | LABELS,
    ),
    "implicit": (lambda: fitted(fm.iMAML(mlp("tanh"), 0.1, 6, **NUMPY), vectors()), {"samples": 6} | LABELS),
    "implicit_int8": (
        lambda: fitted(fm.iMAML(mlp("tanh"), 0.1, 6, **NUMPY), vectors()),
        {"samples": 6, "store": "int8"} | LABELS,
    ),
    "prototypes": (lambda: fitted(fm.ProtoNet(small(None), **NUMPY), images(12, 3)), {"samples": 6, "ways": 3}),
    "prototypes_int8": (
        lambda: fitted(fm.ProtoNet(small(None), **NUMPY), images(12, 3)),
        {"samples": 6, "ways": 3, "store": "int8"},
    ),
    "cosine": (
        lambda: fitted(fm.ProtoNet(mlp("tanh"), "cosine", **NUMPY), vectors()),
        {"samples": 6, "ways": 3},
    ),
    "transfer": (
        lambda: fitted(fm.Transfer(small(20), "centroid", **NUMPY), images(12, 3)),
        {"samples": 6, "ways": 3},
    ),
    "transfer_int8": (
        lambda: fitted(fm.Transfer(small(20), "centroid", **NUMPY), images(12, 3)),
        {"samples": 6, "ways": 3, "store": "int8"},
    ),
}
SMOOTH = {
    "smooth",
    "layer_norm",
    "softened",
    "meta_sgd",
    "anil_vectors",
    "boil_int8",
    "reptile",
    "implicit",
    "implicit_int8",
    "cosine",
}


@cache
def trained(name: str) -> Any:
    """The learner of that name."""
    return MODELS[name][0]()
