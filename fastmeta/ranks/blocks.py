"""Which tasks of a meta-batch are summed together, whoever computes them: blocks, which are dealt to ranks.

Sums are added up block by block, in order, and blocks depend on the number of tasks alone. So the bits of a sum do not
depend on the number of ranks.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

FEWEST, LARGEST = 16, 32  # blocks of a large meta-batch, at least; tasks of a block where there are more, about
Span = tuple[int, int]  # tasks begin .. end - 1


def block_count(tasks: int) -> int:
    """B blocks of T tasks, as many as ranks can share them: min(T, max(16, T // 32)), or the next divisor of T up to
    twice as many, because blocks of equal size are computed in one call."""
    count = min(tasks, max(FEWEST, tasks // LARGEST))
    return next((more for more in range(count, 2 * count + 1) if tasks % more == 0), count)


@lru_cache
def dealt(tasks: int, rank: int, ranks: int) -> tuple[Span, ...]:
    """The blocks of one of `ranks` ranks: neighbours, as many as the others have, or one more."""
    count = block_count(tasks)
    mine = range(rank * count // ranks, (rank + 1) * count // ranks + 1)
    return tuple(pairwise(b * tasks // count for b in mine))


def check_ranks(tasks: int, ranks: int) -> None:
    """ValueError where a rank would have nothing to do."""
    if ranks > (most := block_count(tasks)):
        raise ValueError(
            f"ranks={ranks} must be at most {most}, the blocks that tasks_per_step={tasks} tasks are dealt in. "
            f"Start {most} ranks or fewer, or raise tasks_per_step."
        )
