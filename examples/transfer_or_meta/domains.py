"""Training tasks and tests that are ever further away: characters and requests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import fastmeta as fm
from examples.intents.requests import Requests, read, reduced, split, weighed

Domains = dict[str, fm.tasks.LabelledTasks]


def characters(root: Path, seed: int) -> tuple[fm.tasks.LabelledTasks, Domains]:
    """Omniglot: three quarters of the characters of half the alphabets, to learn from.

    Near: their other characters. Further: the other alphabets. Far: these as negatives with half of the pixels hidden.
    """
    source = fm.tasks.Omniglot(root, rotations=False)
    parts = ("train", "validation", "test")
    names = [name for part in parts for name in source.characters[part]]
    x = np.concatenate([getattr(source, part).x for part in parts])
    y = np.repeat(np.arange(len(names)), len(x) // len(names))
    rng = np.random.default_rng(seed)
    alphabets = np.array([name.split("/")[0] for name in names])
    kinds = rng.permutation(np.unique(alphabets))
    known, held = np.isin(alphabets, kinds[: len(kinds) // 2]), rng.random(len(names)) < 0.25
    top = 255 if x.dtype == np.uint8 else 1
    negative = np.where(rng.random((28, 28, 1)) < 0.5, 0, top - x).astype(x.dtype)

    def tasks(chosen: np.ndarray, images: np.ndarray) -> fm.tasks.LabelledTasks:
        return fm.tasks.from_arrays(images[chosen[y]], y[chosen[y]], queries=10)

    tests = {"same alphabets": tasks(known & held, x), "other alphabets": tasks(~known, x)}
    return tasks(known & ~held, x), tests | {"other alphabets, negative, half hidden": tasks(~known, negative)}


def requests(root: Path, fold: int, width: int) -> tuple[fm.tasks.LabelledTasks, Domains]:
    """50 intents of CLINC150 to learn from. Near: 50 others of the same assistant. Far: a bank's, BANKING77."""
    texts, names, _ = read(root / "clinc150")
    bank_texts, bank_names, _ = read(root / "banking77")
    kinds, y = np.unique(names, return_inverse=True)
    bank_kinds, bank = np.unique(bank_names, return_inverse=True)
    none = np.zeros((1, 2048), np.float32)
    x = fm.tasks.hashed_text(texts + bank_texts)
    part = split(root / "clinc150", fold, kinds.tolist())
    every = Requests(x, np.concatenate([y, len(kinds) + bank]), none, none)
    every = reduced(weighed(every, part["train"]), part["train"], width)

    def tasks(chosen: np.ndarray) -> fm.tasks.LabelledTasks:
        rows = np.isin(every.y, chosen)
        return fm.tasks.from_arrays(every.x[rows], every.y[rows], queries=10)

    tests = {"same assistant": tasks(part["test"]), "a bank": tasks(len(kinds) + np.arange(len(bank_kinds)))}
    return tasks(part["train"]), tests
