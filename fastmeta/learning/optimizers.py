"""Optimizers as pure functions: `init(theta) -> state`, `update(theta, gradient, state) -> theta, state`."""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import Any, get_args

import numpy as np

from fastmeta import checks
from fastmeta.learning.schedules import Schedule
from fastmeta.learning.states import State
from fastmeta_kernels.contract import Array
from fastmeta_kernels.host import is_elsewhere

_small_is_zero = np.errstate(under="ignore")  # a decorator


@dataclass(frozen=True)
class Optimizer(ABC):
    """What SGD and Adam share: the learning rate, a float or a schedule, and the clipping of the gradient.

    `clip_value` first limits each entry to [-clip_value, clip_value]; `clip_norm` then scales the whole array
    down to that Euclidean norm (Pascanu, Mikolov & Bengio 2013). Any array shape; theta's dtype is kept.
    """

    learning_rate: float | Schedule
    clip_norm: float | None = field(default=None, kw_only=True)
    clip_value: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.learning_rate, Schedule):
            checks.settle(self, learning_rate=checks.positive("learning_rate", self.learning_rate))
        for name in ("clip_norm", "clip_value"):
            if (limit := getattr(self, name)) is not None:
                checks.settle(self, **{name: checks.positive(name, limit, "Leave it out for no clipping.")})

    @abstractmethod
    def init(self, theta: Array) -> State:
        """The state before the first update."""

    def update(self, theta: Array, gradient: Array, state: State) -> tuple[Array, State]:
        """theta after one step down `gradient`, and the next state; no input is modified."""
        theta, gradient = _read("theta", theta), _read("gradient", gradient)
        if gradient.shape != theta.shape:
            raise ValueError(f"gradient has shape {gradient.shape} but theta has {theta.shape}.")
        if gradient.dtype != theta.dtype:
            gradient = gradient.astype(theta.dtype)
        if self.clips:
            gradient = self._clipped(gradient)
        moved, moments = self._move(theta, gradient, state, self._rate(state.step))
        return moved, State(state.step + 1, moments)

    @property
    def clips(self) -> bool:
        """Whether gradients are clipped."""
        return self.clip_value is not None or self.clip_norm is not None

    def _rate(self, step: int) -> float:
        rate = self.learning_rate
        return rate if isinstance(rate, float) else rate(step)

    @_small_is_zero
    def _clipped(self, gradient: Array) -> Array:
        if self.clip_value is not None:
            gradient = gradient.clip(-self.clip_value, self.clip_value)
        if self.clip_norm is not None:
            norm = math.sqrt(np.square(gradient, dtype=np.float64).sum())
            gradient = gradient * (self.clip_norm / norm) if norm > self.clip_norm else gradient
        return gradient

    @abstractmethod
    def _move(self, theta: Array, gradient: Array, state: State, rate: float) -> tuple[Array, tuple[Array, ...]]: ...

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON values; `from_dict` is the inverse."""
        settings = {f.name: getattr(self, f.name) for f in fields(self)}
        rate = self.learning_rate
        if isinstance(rate, Schedule):
            settings["learning_rate"] = {"schedule": type(rate).__name__, **vars(rate)}
        return {"optimizer": type(self).__name__, **settings}


@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent with momentum (Polyak 1964): u = momentum u + gradient; theta -= learning_rate u."""

    momentum: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.settle(self, momentum=checks.fraction("momentum", self.momentum))

    def init(self, theta: Array) -> State:
        theta = _read("theta", theta)
        return State(0, (np.zeros_like(theta),) if self.momentum else ())

    @_small_is_zero
    def _move(self, theta: Array, gradient: Array, state: State, rate: float) -> tuple[Array, tuple[Array, ...]]:
        if not state.moments:
            return theta - rate * gradient, ()
        velocity = self.momentum * state.moments[0]
        velocity += gradient
        return theta - rate * velocity, (velocity,)


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, algorithm 1), with the bias corrections folded into the step.

    The moments are kept as plain sums, m / (1 - beta1) and v / (1 - beta2) of the paper.

    >>> from fastmeta import CosineSchedule
    >>> Adam(CosineSchedule(1e-3, 1e-5, steps=50_000), clip_norm=10).init(np.zeros(3)).step
    0
    """

    learning_rate: float | Schedule = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.settle(self, beta1=checks.fraction("beta1", self.beta1))
        checks.settle(self, beta2=checks.fraction("beta2", self.beta2))
        checks.settle(self, epsilon=checks.positive("epsilon", self.epsilon))

    def init(self, theta: Array) -> State:
        theta = _read("theta", theta)
        return State(0, (np.zeros_like(theta), np.zeros_like(theta)))

    def numbers(self, step: int, rate: float | None = None) -> tuple[float, float, float, float]:
        """beta1, beta2, floor and rate of an update after `step` others: theta -= rate m / (sqrt(v) + floor)."""
        count = step + 1
        weight1 = (1 - self.beta1**count) / (1 - self.beta1)  # sum of the weights in the first moment
        weight2 = math.sqrt((1 - self.beta2**count) / (1 - self.beta2))
        rate = self._rate(step) if rate is None else rate
        return self.beta1, self.beta2, self.epsilon * weight2, rate * weight2 / weight1

    def _move(self, theta: Array, gradient: Array, state: State, rate: float) -> tuple[Array, tuple[Array, ...]]:
        numbers = self.numbers(state.step, rate)
        kernels = sys.modules.get("fastmeta_kernels.cpu")  # which meta-gradients have loaded: one pass, the same bits
        made = kernels and kernels.adam(theta, gradient, state.moments, numbers)
        moved, *moments = made or _adam(theta, gradient, state.moments, numbers)
        return moved, tuple(moments)


@_small_is_zero
def _adam(
    theta: Array, gradient: Array, moments: tuple[Array, ...], numbers: tuple[float, float, float, float]
) -> tuple[Array, Array, Array]:
    """theta - rate m / (sqrt(v) + floor), m = beta1 m + g and v = beta2 v + g^2, of (beta1, beta2, floor, rate)."""
    beta1, beta2, floor, rate = numbers
    first = beta1 * moments[0]
    first += gradient
    move = gradient * gradient
    second = beta2 * moments[1]
    second += move
    np.sqrt(second, out=move)
    move += floor
    np.divide(first, move, out=move)
    move *= rate
    return np.subtract(theta, move, out=move), first, second


def _read(name: str, values: Any) -> Array:
    """`values` on the device they lie on."""
    return values if is_elsewhere(values) else checks.array(name, values)


def from_dict(data: dict[str, Any]) -> Optimizer:
    """The optimizer that `to_dict` described; ValueError where its name or its schedule's is unknown."""
    kinds: dict[str, type[Optimizer]] = {"SGD": SGD, "Adam": Adam}
    schedules: dict[str, type[Schedule]] = {kind.__name__: kind for kind in get_args(Schedule)}
    settings = dict(data)
    kind = kinds[checks.choice("optimizer", settings.pop("optimizer"), kinds)]
    if isinstance(settings["learning_rate"], dict):
        rate = dict(settings["learning_rate"])
        schedule = schedules[checks.choice("schedule", rate.pop("schedule"), schedules)]
        settings["learning_rate"] = schedule(**rate)
    return kind(**settings)
