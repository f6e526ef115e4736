"""When is transfer learning enough? Accuracy against shots, near and far: `python -m examples.transfer_or_meta OMNIGLOT`.

OMNIGLOT is a folder with `images_background.zip` and `images_evaluation.zip`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import fastmeta as fm

SHOTS, WAYS = (1, 2, 5, 10), 5
NET = {"channels": 32}
ROWS = ("Transfer, linear head", "Transfer, nearest mean", "ProtoNet", "MAML, 5 steps", "from scratch, 20 steps")


def domains(root: Path, seed: int) -> tuple[fm.tasks.LabelledTasks, dict[str, fm.tasks.LabelledTasks]]:
    """Training characters of half the alphabets; near: new characters of the same ones, far: other alphabets turned
    into negatives with half their pixels hidden, and between them: the other alphabets as they are.
    """
    source = fm.tasks.Omniglot(root, rotations=False, seed=0)
    names = [name for part in ("train", "validation", "test") for name in source.characters[part]]
    x = np.concatenate([getattr(source, part).x for part in ("train", "validation", "test")])
    alphabets = np.array([name.split("/")[0] for name in names])
    kinds = np.random.default_rng(seed).permutation(np.unique(alphabets))
    known = np.isin(alphabets, kinds[: len(kinds) // 2])
    held = np.random.default_rng(seed).random(len(names)) < 0.25
    each = len(x) // len(names)

    def tasks(chosen: np.ndarray, images: np.ndarray) -> fm.tasks.LabelledTasks:
        rows = np.repeat(chosen, each)
        return fm.tasks.from_arrays(images[rows], np.repeat(np.arange(len(names)), each)[rows], queries=10)

    hidden = np.random.default_rng(seed).random((28, 28, 1)) < 0.5
    far = np.where(hidden, 0, 255 - x if x.dtype == np.uint8 else 1 - x).astype(x.dtype)
    near = {"same alphabets": tasks(known & held, x), "other alphabets": tasks(~known, x)}
    return tasks(known & ~held, x), near | {"other alphabets, negative, half hidden": tasks(~known, far)}


def learners(train: fm.tasks.LabelledTasks, iterations: int, seed: int) -> dict[str, fm.Learner]:
    """Each row's learner, trained on the same characters."""
    classes, options = len(train.classes), {"iterations": iterations, "seed": seed}
    transfer = fm.Transfer(fm.Conv4(outputs=classes, **NET)).fit(train, tasks_per_step=2, **options)
    centroid = fm.Transfer(fm.Conv4(outputs=classes, **NET), head="centroid")
    centroid.restore(transfer._checkpoint(transfer.training, transfer._settings, transfer.history))
    maml = fm.MAML(fm.Conv4(outputs=WAYS, **NET), 0.4, 1).fit(train, tasks_per_step=8, **options)
    scratch = fm.MAML(fm.Conv4(outputs=WAYS, **NET), 0.4, 1).fit(train, 0, seed=seed)
    return dict(zip(ROWS, (transfer, centroid, None, maml, scratch), strict=True))
