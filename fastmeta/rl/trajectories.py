"""Trajectories: what was seen, done and earned in R attempts at each of T tasks."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from fastmeta import checks
from fastmeta_kernels.contract import Array


@dataclass(frozen=True, eq=False)
class Trajectories:
    """R trajectories of at most H steps in each of T tasks.

    observations (T, R, H, O): floats. actions (T, R, H, A): floats, or (T, R, H): whole numbers. rewards (T, R, H),
    in the world's unit. lengths (T, R): how many steps count, 1 .. H; by default all. log_probs (T, R, H): log
    probabilities or densities with which the actions were drawn, where they are known. One task's arrays may come
    without the T. What lies behind a trajectory's length is set to 0.

    Raises ValueError or TypeError, naming the task, trajectory and step of a number that is not finite.
    """

    observations: Array
    actions: Array
    rewards: Array
    lengths: Array | None = None
    log_probs: Array | None = None

    def __post_init__(self) -> None:
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        arrays = {name: checks.array(name, value) for name, value in given.items()}
        if arrays["rewards"].ndim == 2:
            arrays = {name: values[None] for name, values in arrays.items()}
        lead = arrays["rewards"].shape
        if len(lead) != 3 or not arrays["rewards"].size:
            raise ValueError(f"rewards of shape {lead} must be (tasks, trajectories, steps), none of them 0.")
        arrays.setdefault("lengths", np.full(lead[:2], lead[2]))
        _check_shapes(arrays, lead)
        arrays["lengths"] = arrays["lengths"].astype(np.int64)
        mask = np.arange(lead[2]) < arrays["lengths"][..., None]
        for name in arrays.keys() - {"lengths"}:
            values = arrays[name]
            counts = mask.reshape(*lead, *[1] * (values.ndim - 3))
            arrays[name] = np.where(counts, values, 0).astype(values.dtype)
            _check_finite(name, arrays[name])
        checks.settle(self, **arrays)

    @property
    def mask(self) -> Array:
        """(T, R, H): whether a step counts."""
        lengths = np.asarray(self.lengths)
        counts: Array = np.arange(self.rewards.shape[2]) < lengths[..., None]
        return counts

    @property
    def returns(self) -> Array:
        """(T, R): the sum of each trajectory's rewards, undiscounted."""
        total: Array = self.rewards.sum(axis=2, dtype=np.float64)
        return total

    @property
    def steps(self) -> int:
        """How many steps count, in all."""
        return int(np.asarray(self.lengths).sum())

    def task(self, i: int) -> Trajectories:
        """The trajectories of task i alone."""
        parts: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        alone: dict[str, Any] = {name: None if part is None else part[i : i + 1] for name, part in parts.items()}
        return Trajectories(**alone)


def _check_shapes(arrays: dict[str, Array], lead: tuple[int, ...]) -> None:
    kinds_of = {"observations": (4, "f"), "rewards": (3, "fiub"), "log_probs": (3, "f")}
    for name, (axes, kinds) in kinds_of.items():
        values = arrays.get(name)
        if values is not None and (values.ndim != axes or values.shape[:3] != lead or values.dtype.kind not in kinds):
            wanted = f"{lead} and a width" if axes == 4 else f"{lead}"
            raise ValueError(
                f"{name} of shape {values.shape} and dtype {values.dtype} must be numbers of shape {wanted}, as the "
                "rewards are. Stack them so."
            )
    actions = arrays["actions"]
    if actions.shape[:3] != lead or actions.ndim != (4 if actions.dtype.kind == "f" else 3):
        raise ValueError(
            f"actions of shape {actions.shape} and dtype {actions.dtype} must be floats of shape {lead} and a width, "
            f"or whole numbers of shape {lead}. Convert them."
        )
    if actions.dtype.kind not in "fiu":
        raise TypeError(f"actions of dtype {actions.dtype} must be floats or whole numbers. Convert them.")
    lengths = arrays["lengths"]
    if lengths.shape != lead[:2] or lengths.dtype.kind not in "iu":
        raise ValueError(f"lengths of shape {lengths.shape} must be whole numbers of shape {lead[:2]}.")
    if lengths.min() < 1 or lengths.max() > lead[2]:
        wrong = lengths.min() if lengths.min() < 1 else lengths.max()
        raise ValueError(f"lengths={wrong} must be 1 .. {lead[2]}, the steps there are. Leave empty trajectories out.")


def _check_finite(name: str, values: Array) -> None:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        task, trajectory, step = np.argwhere(~np.isfinite(values))[0][:3]
        raise ValueError(
            f"{name} must be finite; one of task {task}, trajectory {trajectory}, step {step} is not. "
            "Look at the world."
        )
