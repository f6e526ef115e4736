"""The public door: arrays of any layout become what the kernels take, or an error says what to change.

Every kernel input is C-contiguous, aligned and of one dtype: float64 where theta is, else float32.

One file of more than 200 lines, because what kernels take is said in one place.
"""

from __future__ import annotations

import os
from typing import Any, Protocol

import numpy as np

from fastmeta import checks
from fastmeta import device as devices
from fastmeta.floating import quiet
from fastmeta_kernels.contract import Array, InnerLoop, StepParameters
from fastmeta_kernels.host import is_elsewhere

MOST_STEPS = 1_000_000
LOOPS = 64  # inner loops of one rate that are remembered
PIXELS = ("x", "x_support", "x_query")  # arguments in which uint8 means pixels

_loops: dict[tuple[Any, ...], tuple[Sizes, InnerLoop]] = {}  # by all that they depend on


class Sizes(Protocol):
    """What is asked of a network here: how large its samples, outputs and parameters are."""

    @property
    def input_shape(self) -> tuple[int, ...]: ...
    @property
    def outputs(self) -> int: ...
    @property
    def parameter_count(self) -> int: ...
    @property
    def parameter_shapes(self) -> dict[str, tuple[int, ...]]: ...
    @property
    def head(self) -> tuple[int, int]: ...


def array(name: str, value: Any, device: str = "cpu") -> Array:
    """`value` as `checks.array` gives it, or raises.

    An array on a GPU is taken as it is by a device that computes there, and brought to the host for any other.
    """
    if is_elsewhere(value):
        value = devices.backend(device).on_device(value)
    return value if is_elsewhere(value) else checks.array(name, value)


def inner_steps(value: Any, at_least: int = 0) -> int:
    """The number of inner steps, at most a million."""
    return checks.integer("inner_steps", value, at_least, at_most=MOST_STEPS)


def initial_rates(inner_lr: Any) -> float | Array:
    """A learner's inner_lr: a positive number, or float64 rates of one or two axes and any sign."""
    rates = array("inner_lr", inner_lr)
    if rates.ndim == 0:
        return checks.positive("inner_lr", rates.item())
    if rates.ndim > 2:
        raise ValueError(f"inner_lr of shape {rates.shape} must be a number, (R,) or (inner_steps, R).")
    return converted(_rates(rates).copy(), np.float64, "inner_lr")


def parameters(net: Sizes, theta: Any, tasks: int | None = None, name: str = "theta", device: str = "cpu") -> Array:
    """theta (P,), or (T, P) where data of T tasks allow it, as float32 or float64."""
    values = array(name, theta, device)
    if values.dtype.kind != "f":
        raise TypeError(f"{name} of dtype {values.dtype} must be floats. Start from net.init(seed=0).")
    if values.shape != (net.parameter_count,) and values.shape != (tasks, net.parameter_count):
        count = net.parameter_count
        wanted = f"({count},)" if tasks is None else f"({count},) or ({tasks}, {count})"
        raise ValueError(f"{name} of shape {values.shape} must be {wanted}: {net} has {count} parameters.")
    return converted(values, np.float64 if values.dtype.itemsize >= 8 else np.float32, name)


def direction(net: Sizes, v: Any, tasks: int | None, dtype: Any, device: str = "cpu") -> Array:
    """v, (P,) or (T, P), in theta's dtype."""
    values = parameters(net, v, tasks, "v", device)
    return values if values.dtype == dtype else converted(values, dtype, "v")


def is_single(net: Sizes, x: Any) -> bool:
    """Whether x is one task's (N, ...), not (T, N, ...)."""
    return np.ndim(x) == len(net.input_shape) + 1


def samples(net: Sizes, x: Any, dtype: Any, name: str = "x", device: str = "cpu") -> Array:
    """x (T, N, ...) in `dtype`, uint8 pixels divided by 255 as in tasks; one task's (N, ...) gets T = 1."""
    given = array(name, x, device)
    if given.dtype.kind not in "fiub":
        raise TypeError(f"{name} of dtype {given.dtype} must be numbers.")
    values = given[None] if is_single(net, given) else given
    if values.shape[2:] != net.input_shape or values.ndim != len(net.input_shape) + 2:
        raise ValueError(_misfit(net, name, given.shape))
    if not (values.shape[0] and values.shape[1]):
        what = "samples" if values.shape[0] else "tasks"
        raise ValueError(f"{name} of shape {given.shape} has no {what}. Give at least one.")
    return converted(features(values) if name in PIXELS else values, dtype, name)


def is_picture(value: Any) -> bool:
    """Whether this is the path of a file, or a Pillow image."""
    return isinstance(value, str | os.PathLike) or type(value).__module__.startswith("PIL.")


def no_pictures(name: str, x: Any) -> None:
    """TypeError where x, or the first in it, is a picture, of which nobody knows how it becomes a sample."""
    first = x[0] if isinstance(x, list | tuple) and x else x
    if is_picture(first):
        raise TypeError(
            f"{name}={first!r} must be numbers: the tasks that were learned from do not say how a picture becomes a "
            "sample. Give fm.tasks.read_images(paths, shape), or train on fm.tasks.Images or "
            "from_arrays(..., preparation=fm.tasks.Pictures(shape))."
        )


def features(x: Any) -> Any:
    """Samples as numbers: uint8 are pixels everywhere, which are divided by 255; others as they are."""
    return np.divide(x, np.float32(255), dtype=np.float32) if x.dtype == np.uint8 else x


def inner_loop(
    net: Sizes,
    inner_lr: Any,
    steps: Any,
    adapt: str,
    dtype: Any,
    step_parameters: Any = None,
    pulls: tuple[float, float] | None = None,
) -> InnerLoop:
    """Steps, rates (1 or S, R), what adapts, parameters that are each step's own, weight decay and proximal term."""
    form = None
    if type(inner_lr) is float and type(steps) is int and pulls is step_parameters is None:
        form = id(net), inner_lr, steps, adapt, dtype
        if (seen := _loops.get(form)) is not None:
            return seen[1]
    steps = inner_steps(steps)
    adapted = adapted_range(net, adapt)
    own = _step_parameters(net, step_parameters, steps, dtype)
    if isinstance(inner_lr, float) or np.ndim(array("inner_lr", inner_lr)) == 0:
        value = inner_lr.item() if isinstance(inner_lr, np.ndarray) else inner_lr
        rate = np.array([[checks.positive("inner_lr", value)]])
        made = InnerLoop(steps, _converted_rates(rate, dtype), adapted, own, pulls)
        if form is not None:
            if len(_loops) >= LOOPS:
                _loops.clear()
            _loops[form] = net, made
        return made
    rates = _rates(array("inner_lr", inner_lr))
    arrays, count = len(net.parameter_shapes), net.parameter_count
    if rates.ndim > 2 or rates.shape[-1] not in (1, arrays, count) or len(np.atleast_2d(rates)) not in (1, steps):
        raise ValueError(
            f"inner_lr of shape {rates.shape} must be a number or an array whose last axis is 1, {arrays} "
            f"(one per parameter array) or {count} (one per parameter), with an optional first axis of 1 or "
            f"inner_steps={steps}."
        )
    return InnerLoop(steps, _converted_rates(np.atleast_2d(rates), dtype), adapted, own, pulls)


def pulls(weight_decay: Any, proximal: Any) -> tuple[float, float] | None:
    """Weight decay and proximal term of the inner loop, None without both."""
    if weight_decay is None and proximal is None:
        return None
    given = {"weight_decay": weight_decay, "proximal": proximal}
    decay, pull = (0.0 if value is None else checks.not_negative(name, value) for name, value in given.items())
    return decay, pull


def adapted_range(net: Sizes, adapt: str) -> tuple[int, int]:
    """theta[start:stop] of "all", of the "head", the last linear layer, or of the "body" before it."""
    if checks.choice("adapt", adapt, ("all", "head", "body")) == "all":
        return 0, net.parameter_count
    if adapt == "body" and net.head[0] == 0:
        raise ValueError(f'adapt="body" needs a network with parameters before the last linear layer; got {net}.')
    return net.head if adapt == "head" else (0, net.head[0])


def loss_weights(value: Any, steps: int, dtype: Any) -> Array | None:
    """Weights (S + 1,) of the query loss before the first and after each inner step, at least one of them not 0."""
    if value is None:
        return None
    weights = array("loss_weights", value)
    if weights.dtype.kind not in "fiu" or weights.shape != (steps + 1,) or (weights < 0).any() or not weights.any():
        raise ValueError(
            f"loss_weights={value} must be inner_steps + 1={steps + 1} numbers of at least 0, not all 0: "
            "one before the first inner step and one after each."
        )
    return converted(weights, dtype, "loss_weights")


def _step_parameters(net: Sizes, given: Any, steps: int, dtype: Any) -> StepParameters | None:
    if not given:
        return None
    names = list(net.parameter_shapes)
    for name in given:
        checks.choice("step_parameters", name, names)
    rows = []
    for name in (n for n in names if n in given):
        values, wanted = array(name, given[name]), (steps + 1, *net.parameter_shapes[name])
        if values.dtype.kind not in "fiu" or values.shape != wanted:
            raise ValueError(
                f'step_parameters["{name}"] of shape {values.shape} must be {wanted}: one before the first inner '
                "step and one after each."
            )
        rows.append(converted(values, dtype, name).reshape(steps + 1, -1))
    blocks = tuple(i for i, name in enumerate(names) if name in given)
    return StepParameters(blocks, np.concatenate(rows, axis=1))


def _converted_rates(rates: Array, dtype: Any) -> Array:
    made = converted(rates, dtype, "inner_lr")
    if not made.all() and (vanished := rates[made == 0]).any():
        raise ValueError(
            f"inner_lr={vanished[vanished != 0][0]} must not be 0 as {made.dtype}, for which it is too small. "
            "Use a larger rate or a float64 theta."
        )
    return made


def _rates(rates: Array) -> Array:
    if rates.dtype.kind not in "fiu":
        raise TypeError(f"inner_lr of dtype {rates.dtype} must be numbers.")
    return rates


def converted(values: Array, dtype: Any, name: str) -> Array:
    """Finite values in a float dtype, contiguous; ValueError where they are not finite, or too large for it."""
    if type(values) is np.ndarray and values.dtype == dtype and values.flags.aligned:
        made = values if values.flags.c_contiguous else np.ascontiguousarray(values)
        if checks.few_finite(made):
            return made
    return _converted(values, dtype, name)


@quiet
def _converted(values: Array, dtype: Any, name: str) -> Array:
    made = contiguous(values, dtype)
    if not checks.all_finite(made):
        checks.finite(name, array(name, values))
        cure = "Scale it" if made.dtype == np.float64 else "Use a float64 theta, or scale it"
        raise ValueError(f"{name} is too large for {made.dtype}: it reaches {np.abs(values).max():.3g}. {cure}.")
    return made


def contiguous(values: Array, dtype: Any) -> Array:
    """`values` in `dtype`, C-contiguous and aligned; themselves where they are already."""
    if is_elsewhere(values):
        return values.astype(dtype, order="C", copy=False)
    values = np.ascontiguousarray(values, dtype)
    return values if values.flags.aligned else values.copy()


def _misfit(net: Sizes, name: str, shape: tuple[int, ...]) -> str:
    wanted = net.input_shape
    if len(shape) not in (len(wanted) + 1, len(wanted) + 2):
        rest = ", ".join(map(str, wanted))
        return f"{name} of shape {shape} must be (samples, {rest}) or (tasks, samples, {rest}) for {net}."
    if len(wanted) == 1:
        return f"{name} has {shape[-1]} features but this network takes {wanted[0]} ({net})."
    got = " x ".join(map(str, shape[-3:]))
    return f"{name} has images of {got} but this network takes {' x '.join(map(str, wanted))} ({net})."
