"""How a training begins and its one transition, apart from what is trained and on what."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fastmeta import checks, memory
from fastmeta.floating import no_overflow, overflows
from fastmeta.learning.optimizers import Optimizer
from fastmeta.learning.states import State, Training
from fastmeta.tasks.episode import Batch, TaskSource
from fastmeta_kernels import host
from fastmeta_kernels.contract import Array, Backend

MANY_TASKS = 256  # from here on one of them is measured first
_CURES = "Lower the optimizer's learning_rate or inner_lr, or give the optimizer clip_norm=10."


def no_history(validated: bool = False) -> dict[str, Array]:
    """The history of a training before its first iteration."""
    return {name: np.zeros(0) for name in ("loss", "seconds", *(["validation"] if validated else []))}


def begin(parameters: dict[str, Array], optimizers: dict[str, Optimizer]) -> Training:
    """Training before its first iteration; each parameter has its optimizer."""
    return Training(0, parameters, {name: optimizers[name].init(values) for name, values in parameters.items()})


def check_memory(tasks: TaskSource, tasks_per_step: int, seed: int, step: int) -> None:
    """MemoryError, which names the number that would, where meta-batches of very many tasks do not fit into memory."""
    if tasks_per_step >= MANY_TASKS and isinstance(one := tasks.sample(1, seed=seed, step=step), Batch):
        memory.check("tasks_per_step", tasks_per_step, one.nbytes)


def advance(training: Training, slopes: dict[str, Array], optimizers: dict[str, Optimizer]) -> Training:
    """One update of every parameter down its slope.

    Raises DivergenceError where a slope is not finite or the update overflows, ValueError where one is not there.
    """
    step, parameters, moments = training
    if parameters.keys() != slopes.keys():
        odd = sorted(parameters.keys() ^ slopes.keys())
        raise ValueError(
            f"slopes of {', '.join(slopes)} must be of {', '.join(parameters)}, which initial_parameters names: "
            f"{odd[0]} is in one of them only. Return a slope for each from meta_gradients."
        )
    moved, states = {}, {}
    for name, slope in slopes.items():
        if not checks.all_finite(slope):
            raise checks.DivergenceError(f"the meta-gradient of {name} is not finite. {_CURES}")
        try:
            with overflows():
                moved[name], states[name] = optimizers[name].update(parameters[name], slope, moments[name])
            no_overflow(moved[name])
        except FloatingPointError as error:
            raise checks.DivergenceError(f"the update of {name} overflows. {_CURES}") from error
    return Training(step + 1, moved, states)


def on_device(training: Training, names: Iterable[str], backend: Backend) -> Training:
    """The same training with these parameters and moments where `backend` computes; `advance` then moves them there."""
    return _moved(training, names, backend.on_device)


def on_host(training: Training) -> Training:
    """The same training, bit for bit, with every array NumPy's."""
    return _moved(training, training.parameters, host.on_host)


def _moved(training: Training, names: Iterable[str], move: Callable[[Any], Any]) -> Training:
    _, parameters, moments = training
    present = [name for name in names if name in parameters]
    states = {n: State(moments[n].step, tuple(move(values) for values in moments[n].moments)) for n in present}
    arrays = {n: move(parameters[n]) for n in present}
    return training._replace(parameters=parameters | arrays, moments=moments | states)
