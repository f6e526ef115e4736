"""A fit on many ranks: each computes the blocks that are dealt to it, all move by the same sums."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from fastmeta.device import backend
from fastmeta.floating import quiet
from fastmeta.learning.states import Training
from fastmeta.networks.network import Network
from fastmeta.ranks import digests
from fastmeta.ranks.blocks import check_ranks, dealt
from fastmeta.ranks.flat import Layout
from fastmeta.ranks.group import Group, Sums
from fastmeta.tasks.episode import Batch, TaskSource
from fastmeta.tasks.shares import cut, share
from fastmeta_kernels.contract import Array


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


class Ranked:
    """The updates of one learner's fit on the ranks of `group`.

    Raises ValueError on all ranks where there are more of them than blocks of tasks, or where program, data,
    parameters or what is `said` differ.
    """

    def __init__(self, group: Group, learner: Trained, tasks: TaskSource, said: dict[str, Any]) -> None:
        self.group, self.learner = group, learner
        self.tasks_per_step = int(learner._settings["tasks_per_step"])
        check_ranks(self.tasks_per_step, group.size)
        said = said | learner.hyper_parameters() | {"net": learner.net.to_dict(), "learner": type(learner).__name__}
        names = digests.versions() | {name: str(value) for name, value in said.items()}
        names |= {"tasks": digests.of_data(tasks), "checkpoint": digests.of(learner.training)}
        group.same(names)

    def update(self, source: TaskSource) -> tuple[float, dict[str, Array]]:
        """The mean loss of the next meta-batch, and its slopes."""
        layout = Layout(self.learner.training.parameters)
        loss, row = self.group.summed(self.tasks_per_step, lambda: self._sums(source, layout))
        slopes, there = layout.slopes(row), backend(self.learner.device)
        return loss, {n: there.on_device(s) if n in self.learner.gpu_parameters else s for n, s in slopes.items()}

    def finish(self) -> None:
        """Wait for all ranks: whatever ends one of them ends all."""
        self.group.gathered(lambda: None)

    def _sums(self, source: TaskSource, layout: Layout) -> Sums:
        """Slopes and losses of the blocks of this rank, each times its share of the tasks."""
        learner, tasks = self.learner, self.tasks_per_step
        spans = dealt(tasks, self.group.rank, self.group.size)
        first, last = spans[0][0], spans[-1][1]
        batch = share(source, tasks, first, last, learner._settings["seed"], learner.training.step)
        rows, losses = [], []
        try:
            for begin, end in spans:
                learner.first_task = begin
                loss, slopes = quiet(learner.meta_gradients)(cut(batch, begin - first, end - first))
                rows.append(layout.row(slopes, (end - begin) / tasks))
                losses.append(float(loss) * ((end - begin) / tasks))
        finally:
            learner.first_task = 0
        return Sums(np.stack(rows), np.array(losses))
