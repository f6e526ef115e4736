"""The public door: arrays of any layout become what the kernels take, or an error says what to change.

Every kernel input is C-contiguous, aligned and of one dtype: float64 where theta is, else float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta import checks
from fastmeta.networks import Network
from fastmeta.tasks.episode import Batch
from fastmeta_kernels.contract import InnerLoop, TaskSet

Array = NDArray[Any]


def parameters(net: Network, theta: Any, tasks: int | None = None, name: str = "theta") -> Array:
    """theta (P,), or (T, P) where data of T tasks allow it, as float32 or float64."""
    array = np.asarray(theta)
    if array.dtype.kind != "f":
        raise TypeError(f"{name} of dtype {array.dtype} must be floats. Start from net.init(seed=0).")
    if array.shape != (net.parameter_count,) and array.shape != (tasks, net.parameter_count):
        count = net.parameter_count
        wanted = f"({count},)" if tasks is None else f"({count},) or ({tasks}, {count})"
        raise ValueError(f"{name} of shape {array.shape} must be {wanted}: {net} has {count} parameters.")
    array = _contiguous(array, np.float64 if array.dtype.itemsize >= 8 else np.float32)
    checks.finite(name, array)
    return array


def is_single(net: Network, x: Any) -> bool:
    """Whether x is one task's (N, ...), not (T, N, ...)."""
    return np.ndim(x) == len(net.input_shape) + 1


def samples(net: Network, x: Any, dtype: Any, name: str = "x") -> Array:
    """x (T, N, ...) in `dtype`; one task's (N, ...) gets T = 1."""
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} of dtype {array.dtype} must be numbers.")
    if is_single(net, array):
        array = array[None]
    if array.shape[2:] != net.input_shape or array.ndim != len(net.input_shape) + 2:
        raise ValueError(_misfit(net, name, np.shape(x)))
    if not (array.shape[0] and array.shape[1]):
        what = "samples" if array.shape[0] else "tasks"
        raise ValueError(f"{name} of shape {np.shape(x)} has no {what}. Give at least one.")
    array = _contiguous(array, dtype)
    checks.finite(name, array)
    return array


def task_set(
    net: Network,
    x: Any,
    y: Any,
    weights: Any,
    dtype: Any,
    names: tuple[str, str, str] = ("x", "y", "weights"),
) -> TaskSet:
    """Samples, labels or targets and weights of T tasks; single data get T = 1."""
    single = is_single(net, x)
    data = samples(net, x, dtype, names[0])
    lead = data.shape[:2]
    targets = np.asarray(y)[None] if single else np.asarray(y)
    shape = targets.shape[1:] if single else targets.shape
    if targets.dtype.kind in "iu":
        if targets.shape != lead:
            wanted = lead[1:] if single else lead
            raise ValueError(f"{names[1]} of shape {shape} must hold one label a sample: {wanted}.")
        _check_labels(targets, net.outputs)
        targets = _contiguous(targets, np.int64)
    elif targets.dtype.kind == "f":
        if targets.shape != (*lead, net.outputs):
            wanted = (*lead, net.outputs)[1:] if single else (*lead, net.outputs)
            advice = "Use integers for labels." if targets.shape == lead else "Float targets mean squared error."
            raise ValueError(f"{names[1]} of shape {shape} must be {wanted} for {net}. {advice}")
        targets = _contiguous(targets, dtype)
        checks.finite(names[1], targets)
    else:
        raise TypeError(f"{names[1]} of dtype {targets.dtype} must be integer labels or float targets.")
    return TaskSet(data, targets, _weights(weights, lead, single, dtype, names[2]))


def batch_sets(net: Network, batch: Batch, dtype: Any) -> tuple[TaskSet, TaskSet]:
    """The support and query sets of a batch."""
    if not isinstance(batch, Batch):
        raise TypeError(f"batch must be a fastmeta.Batch(x_support, y_support, x_query, y_query); got {type(batch)}.")
    support = ("x_support", "y_support", "support_weights")
    query = ("x_query", "y_query", "query_weights")
    return (
        task_set(net, batch.x_support, batch.y_support, batch.support_weights, dtype, support),
        task_set(net, batch.x_query, batch.y_query, batch.query_weights, dtype, query),
    )


def inner_loop(net: Network, inner_lr: Any, inner_steps: Any, adapt: str, dtype: Any) -> InnerLoop:
    """Steps, rates (1 or S, R) and the range of theta that adapts."""
    steps = checks.integer("inner_steps", inner_steps, 0)
    whole = checks.choice("adapt", adapt, ("all", "head")) == "all"
    adapted = (0, net.parameter_count) if whole else net.head
    if np.ndim(inner_lr) == 0:
        value = inner_lr.item() if isinstance(inner_lr, np.ndarray) else inner_lr
        return InnerLoop(steps, np.full((1, 1), checks.positive("inner_lr", value), dtype), adapted)
    rates = np.asarray(inner_lr)
    if rates.dtype.kind not in "fiu":
        raise TypeError(f"inner_lr of dtype {rates.dtype} must be numbers.")
    arrays, count = len(net.parameter_shapes), net.parameter_count
    if rates.ndim > 2 or rates.shape[-1] not in (1, arrays, count) or len(np.atleast_2d(rates)) not in (1, steps):
        raise ValueError(
            f"inner_lr of shape {rates.shape} must be a number or an array whose last axis is 1, {arrays} "
            f"(one per parameter array) or {count} (one per parameter), with an optional first axis of 1 or "
            f"inner_steps={steps}."
        )
    rates = _contiguous(np.atleast_2d(rates), dtype)
    checks.finite("inner_lr", rates)
    return InnerLoop(steps, rates, adapted)


def _weights(weights: Any, lead: tuple[int, ...], single: bool, dtype: Any, name: str) -> Array | None:
    if weights is None:
        return None
    array = np.asarray(weights)[None] if single else np.asarray(weights)
    if array.dtype.kind not in "fiu" or array.shape != lead:
        wanted = lead[1:] if single else lead
        raise ValueError(f"{name} of shape {np.shape(weights)} must be numbers of shape {wanted}, one a sample.")
    array = _contiguous(array, dtype)
    checks.finite(name, array)
    return array


def _check_labels(labels: Array, ways: int) -> None:
    low, high = labels.min(), labels.max()
    if low < 0 or high >= ways:
        wrong = low if low < 0 else high
        raise ValueError(f"labels must be 0 .. ways-1; got {wrong} with ways={ways}.")


def _contiguous(array: Array, dtype: Any) -> Array:
    array = np.ascontiguousarray(array, dtype)
    return array if array.flags.aligned else array.copy()


def _misfit(net: Network, name: str, shape: tuple[int, ...]) -> str:
    wanted = net.input_shape
    if len(shape) not in (len(wanted) + 1, len(wanted) + 2):
        rest = ", ".join(map(str, wanted))
        return f"{name} of shape {shape} must be (samples, {rest}) or (tasks, samples, {rest}) for {net}."
    if len(wanted) == 1:
        return f"{name} has {shape[-1]} features but this network takes {wanted[0]} ({net})."
    got = " x ".join(map(str, shape[-3:]))
    return f"{name} has images of {got} but this network takes {' x '.join(map(str, wanted))} ({net})."
