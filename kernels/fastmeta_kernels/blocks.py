"""Meta-gradients of blocks of tasks: each block's bits are its own, whatever other blocks are computed beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastmeta_kernels.contract import Array, MetaGradientArrays, TaskSet

Span = tuple[int, int]  # tasks begin .. end - 1
OF_TASKS = ("query_losses", "support_losses")
OF_BLOCKS = ("gradient", "rates_gradient", "step_parameters_gradient")
MetaGradient = Callable[..., MetaGradientArrays]


def mean_of_parts(found: Array, parts: int) -> Array:
    """The mean (T, P) over the parts of each task, whose values are (T B, P)."""
    mean: Array = found.reshape(-1, parts, found.shape[1]).mean(axis=1) if parts > 1 else found
    return mean


def one_by_one(
    meta_gradient: MetaGradient, support: TaskSet, query: TaskSet, blocks: Sequence[Span]
) -> MetaGradientArrays:
    """Means (B, ...) over the tasks of each block, of which `meta_gradient` computes one, where it leaves them."""
    return _together([meta_gradient(*(_tasks(data, [block]) for data in (support, query))) for block in blocks])


def by_size(
    meta_gradient: MetaGradient, support: TaskSet, query: TaskSet, blocks: Sequence[Span]
) -> MetaGradientArrays:
    """The same by `meta_gradient(support, query, blocks=B)`, of as many equal blocks behind each other."""
    sizes = [end - begin for begin, end in blocks]
    if len(set(sizes)) == 1:
        return meta_gradient(support, query, blocks=len(blocks))
    order, found = [], []
    for size in sorted(set(sizes)):
        chosen = [b for b, n in enumerate(sizes) if n == size]
        spans = [blocks[b] for b in chosen]
        found.append(meta_gradient(_tasks(support, spans), _tasks(query, spans), blocks=len(spans)))
        order.append(chosen)
    return _in_order(found, order, blocks)


def _tasks(data: TaskSet, spans: Sequence[Span]) -> TaskSet:
    """The tasks of these spans, one behind the other."""

    def taken(values: Any) -> Any:
        if len(spans) == 1:
            return values[slice(*spans[0])]
        return np.concatenate([values[begin:end] for begin, end in spans])

    given = {name: getattr(data, name) for name in ("x", "y", "weights", "log_probs")}
    return data._replace(**{name: taken(values) for name, values in given.items() if values is not None})


def _together(found: Sequence[MetaGradientArrays]) -> MetaGradientArrays:
    """Results of one block each as those of all."""
    of_tasks = {name: np.concatenate([getattr(one, name) for one in found]) for name in OF_TASKS}
    of_blocks = {name: np.stack([getattr(one, name) for one in found]) for name in OF_BLOCKS}
    return MetaGradientArrays(**of_tasks, **of_blocks)


def _in_order(
    found: Sequence[MetaGradientArrays], order: Sequence[list[int]], blocks: Sequence[Span]
) -> MetaGradientArrays:
    """Results of blocks, of which found[i] has those of numbers order[i], as those of blocks in their order."""
    numbers = [b for part in order for b in part]
    tasks = np.concatenate([np.arange(*blocks[b]) for b in numbers])
    places = dict.fromkeys(OF_TASKS, tasks) | dict.fromkeys(OF_BLOCKS, numbers)
    put = {}
    for name, at in places.items():
        values = np.concatenate([getattr(one, name) for one in found])
        put[name] = np.zeros((len(at), *values.shape[1:]), values.dtype)
        if values.size:
            put[name][at] = values
    return MetaGradientArrays(**put)
