"""Checkpoints: one file of a learner, with all that resuming its training needs.

One file of more than 200 lines, because what writes a format and what distrusts it change together.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastmeta import checks
from fastmeta.learning import archive
from fastmeta.learning.archive import Archive, refused
from fastmeta.learning.states import Best, State, Training
from fastmeta.networks.network import Network
from fastmeta_kernels.contract import Array

if TYPE_CHECKING:
    from fastmeta.tasks.images.pictures import Pictures

OF_POLICIES = ("return_before", "return_after", "entropy", "kl", "accepted", "explained", "env_steps")
SECONDS_OF_POLICIES = ("seconds_sampling", "seconds_products")
HISTORIES = ("loss", "seconds", "validation", *OF_POLICIES, *SECONDS_OF_POLICIES)  # those that a checkpoint may have


class Checkpoint(NamedTuple):
    """One learner. `hyper_parameters` and `settings` (of fit) are plain JSON values."""

    algorithm: str
    hyper_parameters: dict[str, Any]
    net: Network
    settings: dict[str, Any]
    training: Training
    history: dict[str, Array]  # (step,) each
    best: Best | None = None
    preparation: Pictures | None = None


def write(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint, as `archive.write` does."""
    algorithm, hyper_parameters, net, settings, training, history, best, preparation = checkpoint
    arrays = dict(training.parameters) | {f"history.{name}": values for name, values in history.items()}
    for name, state in training.moments.items():
        arrays |= {f"optimizer.{name}.{i}": moment for i, moment in enumerate(state.moments)}
    description = {
        "algorithm": algorithm,
        "hyper_parameters": hyper_parameters,
        "network": net.to_dict(),
        "settings": settings,
        "step": training.step,
    }
    if best is not None:
        arrays |= {f"best.{name}": values for name, values in best.parameters.items()}
        description["best"] = {"step": best.step, "score": best.score}
    if preparation is not None:
        description["preparation"] = preparation.to_dict()
    archive.write(path, arrays, description)


class Opened(NamedTuple):
    """A checkpoint file that is open. `outline` is what it holds, but for the values: they take no memory."""

    file: Archive
    outline: Checkpoint

    def read(self) -> Checkpoint:
        """What `write` wrote; ValueError where a bit of it has changed or a value is not finite."""
        with refused(self.file.path):
            saved = _parsed(self.file.arrays(), self.file.description())
            for name, values in saved.training.parameters.items():
                best = () if saved.best is None else (saved.best.parameters[name],)
                for array in (values, *saved.training.moments[name].moments, *best):
                    if not np.isfinite(array).all():
                        raise ValueError(f"{name} and its optimizer arrays must be finite")
            return saved


def read(path: str | os.PathLike[str]) -> Checkpoint:
    """What `write` wrote. Raises as `opened` and `Opened.read`."""
    with opened(path) as file:
        return file.read()


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Opened]:
    """A checkpoint file, of which the description and the arrays' shapes are read and checked.

    Raises as `archive.opened`, and ValueError where it was edited.
    """
    with archive.opened(path) as file:
        yield outlined(file)


def outlined(file: Archive) -> Opened:
    """An open file as a checkpoint; ValueError where it is none."""
    with refused(file.path):
        return Opened(file, _parsed(file.outlines(), file.description()))


def check_shapes(training: Training, wanted: dict[str, Array]) -> None:
    """ValueError where what was learned does not have the names and shapes of `wanted`."""
    theirs, ours = ({n: a.shape for n, a in arrays.items()} for arrays in (training.parameters, wanted))
    for name in theirs | ours:
        if theirs.get(name) != ours.get(name):
            raise ValueError(f"{name} is {theirs.get(name, 'absent')}, not {ours.get(name, 'absent')}")


def _parsed(arrays: dict[str, Array], description: dict[str, Any]) -> Checkpoint:
    step = checks.integer("step", description["step"], 0)
    parameters = {name: values for name, values in arrays.items() if "." not in name}
    moments, odd = {}, arrays.keys() - parameters.keys() - {f"history.{name}" for name in HISTORIES}
    for name in parameters:
        keys = sorted(key for key in arrays if key.startswith(f"optimizer.{name}."))
        moments[name] = State(step, tuple(arrays[key] for key in keys))
        odd -= {f"best.{name}", *keys}
    saved = Checkpoint(
        description["algorithm"],
        description["hyper_parameters"],
        Network.from_dict(description["network"]),
        description["settings"],
        Training(step, parameters, moments),
        {name.removeprefix("history."): values for name, values in arrays.items() if name.startswith("history.")},
        _best(arrays, parameters, description.get("best")),
        preparation_of(description),
    )
    _check(saved)
    if odd:
        raise ValueError(f"{min(odd)} belongs to no parameter")
    return saved


def _best(arrays: dict[str, Array], parameters: dict[str, Array], described: dict[str, Any] | None) -> Best | None:
    if described is None:
        return None
    step = checks.integer("the step of the best", described["step"], 1)
    return Best(step, float(described["score"]), {name: arrays[f"best.{name}"] for name in parameters})


def preparation_of(description: dict[str, Any]) -> Pictures | None:
    """How pictures became samples, where a file says it."""
    if "preparation" not in description:
        return None
    from fastmeta.tasks.images.pictures import Pictures

    return Pictures.from_dict(description["preparation"])


def _check(saved: Checkpoint) -> None:
    for field in ("hyper_parameters", "settings"):
        if not isinstance(getattr(saved, field), dict):
            raise TypeError(f"{field}={getattr(saved, field)!r} must be settings by name")
    (step, parameters, moments), count = saved.training, saved.net.parameter_count
    if parameters["theta"].shape != (count,):
        raise ValueError(f"theta of shape {parameters['theta'].shape} must be ({count},) for {saved.net}")
    for name, values in parameters.items():
        if values.dtype not in (np.float32, np.float64):
            raise TypeError(f"{name} of dtype {values.dtype} must be float32 or float64")
        best = () if saved.best is None else (saved.best.parameters[name],)
        for array in (values, *moments[name].moments, *best):
            if (array.dtype, array.shape) != (values.dtype, values.shape):
                raise ValueError(
                    f"the optimizer array of {name}, {array.dtype} {array.shape}, must be {values.dtype} {values.shape}"
                )
    for name in ("loss", "seconds", *(name for name in HISTORIES[2:] if name in saved.history)):
        if saved.history[name].shape != (step,):
            raise ValueError(f"the history of {name} of shape {saved.history[name].shape} must be (step,) = ({step},)")


def continued(start: Checkpoint, path: str | os.PathLike[str] | None, resume: bool) -> Checkpoint:
    """`start`, or with `resume` the later state of the same run that is at `path`, where one is.

    Raises FileExistsError where `path` exists without `resume`; ValueError where it is not a state of this
    run, naming the shapes or settings that differ.
    """
    if path is None:
        if resume:
            raise ValueError("resume=True must come with a checkpoint. Give the file to go on from.")
        return start
    if not os.path.exists(path):
        return start
    if not resume:
        raise FileExistsError(
            f'checkpoint="{path}" must not exist yet. Pass resume=True to go on from it, or remove it.'
        )
    with opened(path) as file:
        _check_continues(file.outline, start, path)
        return file.read()


def _check_continues(saved: Checkpoint, start: Checkpoint, path: str | os.PathLike[str]) -> None:
    if saved.net != start.net:
        theirs, ours = saved.net.parameter_shapes, start.net.parameter_shapes
        names = [name for name in theirs | ours if theirs.get(name) != ours.get(name)]
        listed = ", ".join(f"{n} is {theirs.get(n, 'absent')}, not {ours.get(n, 'absent')}" for n in names)
        raise ValueError(
            f'checkpoint="{path}" holds another network, {saved.net}, not {start.net}: '
            f"{listed or 'the shapes agree, the layers do not'}. "
            "Build the saved network to resume, or give another checkpoint to start anew."
        )
    then, now = ({"algorithm": c.algorithm} | c.hyper_parameters | c.settings for c in (saved, start))
    changed = [f"{n} was {then.get(n)}, is {now.get(n)}" for n in then | now if then.get(n) != now.get(n)]
    if changed:
        raise ValueError(
            f'checkpoint="{path}" was trained with other settings: {"; ".join(changed)}. '
            "Give the same ones to resume, or another checkpoint to start anew."
        )
    with refused(path):
        check_shapes(saved.training, start.training.parameters)
        for name, state in start.training.moments.items():
            found = len(saved.training.moments[name].moments)
            if found != len(state.moments):
                raise ValueError(f"{name} has {found} optimizer arrays, not {len(state.moments)}")
