"""The support and query sets of tasks as the kernels take them: samples, targets, weights and loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastmeta import inputs
from fastmeta.inputs import Sizes
from fastmeta.networks import losses
from fastmeta.networks.losses import Loss, PolicyLoss
from fastmeta_kernels import contract
from fastmeta_kernels.contract import Array, TaskSet

if TYPE_CHECKING:
    from fastmeta.tasks.episode import Batch

FORMS = 64  # of sets that are remembered
_seen: dict[tuple[Any, ...], tuple[Sizes, Loss | None, contract.Loss]] = {}  # those of floats that were right


def task_set(
    net: Sizes,
    x: Any,
    y: Any,
    weights: Any,
    dtype: Any,
    names: tuple[str, str, str] = ("x", "y", "weights"),
    device: str = "cpu",
    loss: Loss | None = None,
    log_probs: Any = None,
) -> TaskSet:
    """Samples, labels or targets and weights of T tasks; single data get T = 1. loss None: what y mean.

    log_probs (N,) or (T, N): of actions when they were drawn, for the policy losses that have a ratio.
    """
    form = None
    if weights is log_probs is None and type(x) is type(y) is np.ndarray:
        form = id(net), id(loss), x.shape, x.dtype, y.shape, y.dtype
        if (seen := _seen.get(form)) is not None:  # nothing is left to be asked but the values
            samples = inputs.converted(x, dtype, names[0])
            return TaskSet(samples, inputs.converted(y, dtype, names[1]), None, seen[2])
    x = inputs.array(names[0], x, device)
    single = inputs.is_single(net, x)
    data = inputs.samples(net, x, dtype, names[0], device)
    lead = data.shape[1:2] if single else data.shape[:2]
    targets = inputs.array(names[1], y)
    meant = losses.of(loss, targets, names[1])
    meant.check(names[1], targets, lead, net.outputs, net)
    targets = targets[None] if single else targets
    made = inputs.contiguous(targets, "int64") if meant.labelled else inputs.converted(targets, dtype, names[1])
    logs = _log_probs(log_probs, meant, lead, single, dtype)
    if form is not None and not (single or meant.labelled) and x.dtype.kind == "f":
        if len(_seen) >= FORMS:
            _seen.clear()
        _seen[form] = net, loss, meant.kernel
    return TaskSet(data, made, _weights(weights, lead, single, dtype, names[2]), meant.kernel, logs)


def batch_sets(
    net: Sizes, batch: Batch, dtype: Any, device: str = "cpu", loss: Loss | None = None
) -> tuple[TaskSet, TaskSet]:
    """The support and query sets of a batch."""
    from fastmeta.tasks.episode import Batch  # late: who adapts has none

    if not isinstance(batch, Batch):
        raise TypeError(f"batch must be a fastmeta.Batch(x_support, y_support, x_query, y_query); got {type(batch)}.")
    support = ("x_support", "y_support", "support_weights")
    query = ("x_query", "y_query", "query_weights")
    return (
        task_set(net, batch.x_support, batch.y_support, batch.support_weights, dtype, support, device, loss),
        task_set(net, batch.x_query, batch.y_query, batch.query_weights, dtype, query, device, loss),
    )


def _log_probs(given: Any, loss: Loss, lead: tuple[int, ...], single: bool, dtype: Any) -> Array | None:
    needed = isinstance(loss, PolicyLoss) and loss.has_ratio
    if given is None and not needed:
        return None
    if given is None or not needed:
        wanted = "be given for" if needed else "be left out for"
        raise ValueError(f"log_probs must {wanted} {loss}: they are those of the actions when they were drawn.")
    logs = inputs.array("log_probs", given)
    if logs.dtype.kind != "f" or logs.shape != lead:
        raise ValueError(f"log_probs of shape {logs.shape} and dtype {logs.dtype} must be floats of shape {lead}.")
    return inputs.converted(logs[None] if single else logs, dtype, "log_probs")


def _weights(weights: Any, lead: tuple[int, ...], single: bool, dtype: Any, name: str) -> Array | None:
    if weights is None:
        return None
    given = inputs.array(name, weights)
    if given.dtype.kind not in "fiu" or given.shape != lead:
        raise ValueError(f"{name} of shape {given.shape} must be numbers of shape {lead}, one a sample.")
    return inputs.converted(given[None] if single else given, dtype, name)
