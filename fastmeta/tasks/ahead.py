"""Meta-batches drawn several at once, where a source of tasks can: calls of NumPy cost as much for one as for many."""

from __future__ import annotations

from typing import Any

from fastmeta.tasks.episode import Batch, TaskSource

MOST = 16  # meta-batches
BYTES = 1 << 18  # of all of them: what is drawn stays in the cache until it is used


class Ahead:
    """The source `tasks` to a fit that ends at step `end`: what `sample` gives, and what it is asked for next.

    Whatever is asked for, the batch is that of (tasks, seed, step): one that was not drawn before is drawn then.
    """

    def __init__(self, tasks: Any, end: int) -> None:
        self.tasks, self.end = tasks, end
        self.count = 1  # meta-batches that are drawn at once, as soon as the size of one is known
        self.drawn: dict[tuple[int, int, int], Batch] = {}

    def sample(self, tasks: int, seed: int, step: int = 0) -> Batch:
        """The batch of `step`, and, unseen, those of the steps behind it."""
        key = tasks, seed, step
        if key not in self.drawn:
            batches = self.tasks.several(tasks, seed, step, max(1, min(self.count, self.end - step)))
            self.drawn = {(tasks, seed, step + i): batch for i, batch in enumerate(batches)}
            self.count = min(MOST, BYTES // max(batches[0].nbytes, 1))
        return self.drawn[key]

    def ready(self, tasks: int, seed: int, step: int, most: int) -> list[Batch]:
        """Batches of `step` and of the steps behind it that are drawn together, `most` at most."""
        self.sample(tasks, seed, step)
        found = (self.drawn.get((tasks, seed, step + i)) for i in range(min(most, len(self.drawn))))
        return [batch for batch in found if batch is not None]


def ahead(tasks: TaskSource, end: int) -> TaskSource:
    """`tasks`, drawn ahead up to step `end` where the class that says how they are drawn says it of several too."""
    for kind in type(tasks).__mro__:
        own = vars(kind)
        if "several" in own:
            return Ahead(tasks, end)
        if "sample" in own or "share" in own:  # a subclass that draws its own way
            break
    return tasks
