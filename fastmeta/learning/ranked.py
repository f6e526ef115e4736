"""A fit on many ranks: each computes the blocks that are dealt to it, all move by the same sums."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from fastmeta.device import backend
from fastmeta.floating import quietly
from fastmeta.learning.states import BlockSlopes, Training
from fastmeta.networks.network import Network
from fastmeta.ranks import digests
from fastmeta.ranks.blocks import Span, check_ranks, dealt
from fastmeta.ranks.flat import Layout
from fastmeta.ranks.group import Group, Sums
from fastmeta.tasks.episode import Batch, TaskSource
from fastmeta.tasks.shares import cut, share
from fastmeta_kernels.contract import Array
from fastmeta_kernels.host import is_elsewhere, on_host


class Trained(Protocol):
    """What is trained: a learner, in the middle of a fit."""

    net: Network
    device: str
    gpu_parameters: tuple[str, ...]
    first_task: int
    _settings: dict[str, Any]

    @property
    def training(self) -> Training: ...
    def hyper_parameters(self) -> dict[str, Any]: ...
    def meta_gradients(self, batch: Batch) -> tuple[float, dict[str, Array]]: ...
    def block_gradients(self, batch: Batch, blocks: list[Span]) -> BlockSlopes | None: ...


class Ranked:
    """The updates of one learner's fit on the ranks of `group`.

    Raises ValueError on all ranks where there are more of them than blocks of tasks, or where program, data,
    parameters or what is `said` differ.
    """

    def __init__(self, group: Group, learner: Trained, tasks: TaskSource, said: dict[str, Any]) -> None:
        self.group, self.learner, self.in_blocks = group, learner, _knows_blocks(type(learner))
        self.tasks_per_step = int(learner._settings["tasks_per_step"])
        self.layout = Layout(learner.training.parameters)
        check_ranks(self.tasks_per_step, group.size)
        said = (
            said
            | learner.hyper_parameters()
            | {"device": learner.device, "net": learner.net.to_dict(), "learner": type(learner).__name__}
        )
        names = digests.versions() | {name: str(value) for name, value in said.items()}
        names |= {"tasks": digests.of_data(tasks), "checkpoint": digests.of(learner.training)}
        group.same(names)
        self.on_gpus = learner.device == "cuda"
        if self.on_gpus:
            group.use_nccl()

    def update(self, source: TaskSource) -> tuple[float, dict[str, Array]]:
        """The mean loss of the next meta-batch, and its slopes."""
        loss, row = self.group.summed(self.tasks_per_step, lambda: self._sums(source))
        slopes, there = self.layout.slopes(row), backend(self.learner.device)
        return loss, {
            name: there.on_device(slope) if name in self.learner.gpu_parameters else on_host(slope)
            for name, slope in slopes.items()
        }

    def finish(self) -> None:
        """Wait for all ranks: whatever ends one of them ends all."""
        self.group.gathered(lambda: None)

    def _sums(self, source: TaskSource) -> Sums:
        """Slopes and losses of the blocks of this rank, each times its share of the tasks."""
        learner, tasks = self.learner, self.tasks_per_step
        spans = dealt(tasks, self.group.rank, self.group.size)
        first, last = spans[0][0], spans[-1][1]
        batch = share(source, tasks, first, last, learner._settings["seed"], learner.training.step)
        shares = np.array([(end - begin) / tasks for begin, end in spans])
        with quietly():
            blocks = [(begin - first, end - first) for begin, end in spans]
            found = learner.block_gradients(batch, blocks) if self.in_blocks else None
            losses, slopes = found or _one_by_one(learner, batch, blocks, first)
            arrays = self.group.arrays if self.on_gpus else np
            return Sums(self.layout.rows(slopes, shares, arrays), losses * shares)


def _knows_blocks(kind: type) -> bool:
    """Whether `block_gradients` is of the `meta_gradients` that a learner has, and not of one that it overrides."""
    own = {name: next(c for c in kind.__mro__ if name in vars(c)) for name in ("block_gradients", "meta_gradients")}
    return issubclass(own["block_gradients"], own["meta_gradients"])


def _one_by_one(learner: Trained, batch: Batch, blocks: list[Span], first: int) -> BlockSlopes:
    """What each block gives by itself, of a batch that begins at task `first` of the meta-batch."""
    losses, slopes = [], []
    try:
        for begin, end in blocks:
            learner.first_task = first + begin
            loss, found = learner.meta_gradients(cut(batch, begin, end))
            losses.append(float(loss))
            slopes.append({n: values if is_elsewhere(values) else np.asarray(values) for n, values in found.items()})
    finally:
        learner.first_task = 0
    return np.array(losses), {name: np.stack([found[name] for found in slopes]) for name in slopes[0]}
