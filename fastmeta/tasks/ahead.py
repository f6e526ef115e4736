"""Meta-batches drawn several at once, where a source of tasks can: calls of NumPy cost as much for one as for many."""

from __future__ import annotations

from typing import Any

from fastmeta.tasks.episode import Batch, TaskSource
from fastmeta.tasks.shares import piece

MOST = 64  # meta-batches
BYTES = 1 << 18  # of all of them: what is drawn stays in the cache until it is used


class Ahead:
    """The source `tasks` to a fit that ends at step `end`: what `sample` gives, and what it is asked for next.

    Whatever is asked for, the batch is that of (tasks, seed, step): one that was not drawn before is drawn then.
    """

    def __init__(self, tasks: Any, end: int) -> None:
        self.tasks, self.end = tasks, end
        self.count = 1  # meta-batches that are drawn at once, as soon as the size of one is known
        self.drawn: tuple[int, int, range, Batch] | None = None  # tasks of each, seed, steps, and all of them

    def sample(self, tasks: int, seed: int, step: int = 0) -> Batch:
        """The batch of `step`; unseen, those of the steps behind it are drawn too."""
        return self.ready(tasks, seed, step, 1)

    def ready(self, tasks: int, seed: int, step: int, most: int) -> Batch:
        """The tasks of `step` and of the steps behind it that are drawn together, of `most` steps at most, as one."""
        if self.drawn is None or self.drawn[:2] != (tasks, seed) or step not in self.drawn[2]:
            count = max(1, min(self.count, self.end - step))
            batch = self.tasks.several(tasks, seed, step, count)
            self.drawn = tasks, seed, range(step, step + count), batch
            self.count = min(MOST, BYTES // max(batch.nbytes // count, 1))
        _, _, steps, batch = self.drawn
        begin = step - steps.start
        return piece(batch, begin * tasks, min(begin + most, len(steps)) * tasks)


def ahead(tasks: TaskSource, end: int) -> TaskSource:
    """`tasks`, drawn ahead up to step `end` where the class that says how they are drawn says it of several too."""
    for kind in type(tasks).__mro__:
        own = vars(kind)
        if "several" in own:
            return Ahead(tasks, end)
        if "sample" in own or "share" in own:  # a subclass that draws its own way
            break
    return tasks
