"""Shares of a meta-batch, some of its tasks with the bits that they have among all, and several as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from fastmeta.tasks.episode import Batch, TaskSource


def share(source: TaskSource, tasks: int, begin: int, end: int, seed: int, step: int) -> Batch:
    """Tasks begin .. end - 1 of source.sample(tasks, seed, step).

    A source that has `share(tasks, begin, end, seed, step)` draws no more than these; from any other all are drawn.
    """
    own = getattr(source, "share", None)
    if own is not None:
        found: Batch = own(tasks, begin, end, seed=seed, step=step)
        return found
    return cut(source.sample(tasks, seed=seed, step=step), begin, end)


def cut(batch: Batch, begin: int, end: int) -> Batch:
    """Tasks begin .. end - 1 of a batch, without a copy."""
    parts: dict[str, Any] = {f.name: getattr(batch, f.name) for f in fields(Batch)}
    parts = {name: None if part is None else part[begin:end] for name, part in parts.items()}
    return Batch(**parts)


def piece(batch: Batch, begin: int, end: int) -> Batch:
    """Tasks begin .. end - 1 of a batch, without a copy, and without another look at what was checked as one."""
    made = object.__new__(Batch)
    vars(made).update({n: None if part is None else part[begin:end] for n, part in vars(batch).items()})
    return made


def stacked(batches: Sequence[Batch]) -> Batch:
    """One batch of the tasks of several, which are alike in shapes."""
    parts: dict[str, Any] = {}
    for name in (f.name for f in fields(Batch)):
        arrays = [getattr(batch, name) for batch in batches]
        parts[name] = None if arrays[0] is None else np.concatenate(arrays)
    return Batch(**parts)
