"""ANIL's figure 2 (Raghu et al. 2020, arXiv 1909.09157): the body's features survive adaptation, the head's do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import fastmeta as fm
from benchmarks.figures import Options
from benchmarks.figures.trained import boil, images, maml, with_sizes

STEPS = 3


def measure(small: bool, options: Options) -> dict[str, Any]:
    """CKA of each layer's outputs before and after adaptation, of MAML and of BOIL, whose head does not move."""
    tasks = with_sizes(images(small, options, "test"), 1, 10)
    batch, found = tasks.sample(4 if small else 30, seed=1), dict[str, Any]()
    for name, learner in (("MAML", maml(small, options)), ("BOIL", boil(small, options))):
        phi = learner.adapt(batch.x_support, batch.y_support, STEPS).theta
        similar = fm.lab.similarity(learner.net, learner.theta, phi, batch.x_query)
        kept = [i for i, layer in enumerate(similar.layers) if not layer.startswith(("batchnorm", "norm"))]
        found["layers"] = [similar.layers[i] for i in kept]
        found[name] = [similar.cka[i] for i in kept]
    return found


def claims(numbers: dict[str, Any]) -> dict[str, bool]:
    """MAML's first three blocks stay, its head moves; BOIL's last block moves more than MAML's."""
    maml_cka, boil_cka = (np.array(numbers[name]) for name in ("MAML", "BOIL"))
    blocks = [i for i, name in enumerate(numbers["layers"]) if "relu" in name.lower()]
    return {
        f"MAML: blocks 1 to 3 at least 0.98 ({maml_cka[blocks[:3]].min():.3f})": bool(
            maml_cka[blocks[:3]].min() >= 0.98
        ),
        f"MAML: head at most 0.6 ({maml_cka[-1]:.3f}), block 4 {maml_cka[blocks[3]]:.3f}": bool(maml_cka[-1] <= 0.6),
        f"BOIL's body moves: block 4 {boil_cka[blocks[3]]:.3f}, below MAML's": bool(
            boil_cka[blocks[3]] < maml_cka[blocks[3]]
        ),
    }


def draw(numbers: dict[str, Any], path: Path) -> None:
    """A group of bars a layer."""
    from fastmeta.lab import pictures

    values = {name: np.array(numbers[name]) for name in ("MAML", "BOIL")}
    pictures.bars(path, numbers["layers"], values, "linear CKA before and after adaptation")
