"""Shoulder exercises recognised from a smartwatch: each arm of each person is a task."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta import checks
from fastmeta.tasks.grouped import GroupedTasks

WINDOW, STRIDE = 100, 25  # samples at 50 Hz: 2 s, a new one each half second
SUPPORT_SHARE = 1 / 3  # of a recording, from its beginning


class Watch:
    """Seven exercises of ten people who wore a watch on one arm and then on the other: 20 tasks.

    A sample is a window of 2 s, (100, 1, 6): time, and three axes of acceleration and of rotation. A task is one arm
    of one person, with `shots` windows of each exercise from the first third of its recording as support set and
    `queries` from the rest as query set; no window overlaps both. The labels 0 .. 6 mean the same in every task:
    pendulum, abduction, flexion, internal and external rotation, trapezius, row.

    test: the people, 1 to 10, whose arms are the tasks of `test`; the others are those of `train`. Every channel is
    centred and scaled as the training people's windows ask. Group 2 p + s is the arm s (1: right) of person p.

    Raises ValueError or TypeError for bad sizes or people, ModuleNotFoundError where seglearn is missing, which
    ships the recordings. Data: Burns et al. 2018, arXiv 1802.01489.
    """

    def __init__(self, test: Sequence[int] = (9, 10), shots: int = 1, queries: int = 10) -> None:
        x, y, groups, support = _windows()
        people = sorted(set((groups // 2).tolist()))
        held_out = [checks.integer("test", person, 0) for person in test]
        if not held_out or not set(held_out) < set(people):
            raise ValueError(f"test={tuple(test)} must be some, not all, of the people {people}.")
        tested = np.isin(groups // 2, held_out)
        seen = x[~tested].reshape(-1, x.shape[-1])
        x = ((x - seen.mean(axis=0)) / seen.std(axis=0)).astype(np.float32)
        parts = [(x[part], y[part], groups[part], shots, queries, support[part]) for part in (~tested, tested)]
        self.train, self.test = (GroupedTasks(*part) for part in parts)


def _windows() -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Windows (n, 100, 1, 6), exercises, groups, and whether each lies in the first third of its recording."""
    data = _recordings()
    x, y, groups, support = [], [], [], []
    for recording, exercise, person, side in zip(data["X"], data["y"], data["subject"], data["side"], strict=True):
        cut = int(len(recording) * SUPPORT_SHARE)
        starts = [*range(0, cut - WINDOW + 1, STRIDE), *range(cut, len(recording) - WINDOW + 1, STRIDE)]
        x += [recording[start : start + WINDOW] for start in starts]
        support += [start < cut for start in starts]
        y += [int(exercise)] * len(starts)
        groups += [2 * int(person) + int(side)] * len(starts)
    return np.stack(x)[:, :, None], np.array(y), np.array(groups), np.array(support)


def _recordings() -> Any:
    try:
        datasets = importlib.import_module("seglearn.datasets")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'The watch data need {error.name}, which is not installed: pip install "fastmeta[sensors]".'
        ) from error
    return datasets.load_watch()
