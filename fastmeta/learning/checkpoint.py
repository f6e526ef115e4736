"""Checkpoints: one safetensors file of arrays, with everything else as JSON in its metadata. No pickle.

One file of more than 200 lines, because what writes a format and what distrusts it change together.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from fastmeta import checks
from fastmeta.learning.states import Best, State, Training
from fastmeta.networks.network import Network
from fastmeta_kernels.contract import Array
from fastmeta_kernels.files import written_beside
from fastmeta_kernels.memory import free_bytes

FORMAT = 1
OF_POLICIES = ("return_before", "return_after", "entropy", "kl", "accepted", "explained", "env_steps")
SECONDS_OF_POLICIES = ("seconds_sampling", "seconds_products")
HISTORIES = ("loss", "seconds", "validation", *OF_POLICIES, *SECONDS_OF_POLICIES)  # those that a checkpoint may have
_FOREIGN = "It was written by another program."


class Checkpoint(NamedTuple):
    """One learner. `hyper_parameters` and `settings` (of fit) are plain JSON values."""

    algorithm: str
    hyper_parameters: dict[str, Any]
    net: Network
    settings: dict[str, Any]
    training: Training
    history: dict[str, Array]  # (step,) each
    best: Best | None = None


def write(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a file beside `path`, then rename it: whenever the machine stops, `path` is a whole checkpoint.

    The folder is made where it is missing. Raises OSError where the place cannot be written.
    """
    from safetensors.numpy import save

    algorithm, hyper_parameters, net, settings, training, history, best = checkpoint
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
    text = json.dumps(description)
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    metadata = {"fastmeta_format": str(FORMAT), "description": text, "sha256": _digest(text, arrays)}
    os.makedirs(os.path.dirname(os.fspath(path)) or os.curdir, exist_ok=True)
    with written_beside(path, durable=True) as file:
        file.write(save(arrays, metadata))


class Opened(NamedTuple):
    """A checkpoint file that is open. `outline` is what it holds, but for the values: they take no memory."""

    path: str | os.PathLike[str]
    file: Any
    metadata: dict[str, str]
    outline: Checkpoint

    def read(self) -> Checkpoint:
        """What `write` wrote; ValueError where a bit of it has changed or a value is not finite."""
        with refused(self.path):
            text = self.metadata["description"]
            arrays = {name: self.file.get_tensor(name) for name in self.file.keys()}  # noqa: SIM118
            if self.metadata.get("sha256") not in (None, _digest(text, arrays)):  # older files have none
                raise ValueError("its checksum is that of other content: it was damaged or edited.")
            saved = _parsed(arrays, json.loads(text))
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

    Raises FileNotFoundError where nothing is there; ValueError where the file is cut short, was not written
    by fastmeta, was edited, has a later format, or would not fit the memory.
    """
    from safetensors import SafetensorError, safe_open

    if not os.path.isfile(path):
        raise FileNotFoundError(f'path="{path}" must be a checkpoint file. There is no file of that name.')
    size, room = os.path.getsize(path), free_bytes()
    if size > room:
        raise ValueError(
            f'path="{path}" must be smaller than the free memory, {room / 2**30:.3g} GiB; it has {size / 2**30:.3g}. '
            "Free memory, or restore the file from a copy where it is damaged."
        )
    try:
        file: Any = safe_open(path, framework="numpy")
    except (SafetensorError, OSError) as error:
        with open(path, "rb") as damaged:
            first = damaged.read(9)[8:]  # of the header, behind its length
        cause = "It is cut short or damaged: restore it from a copy." if first in (b"", b"{") else _FOREIGN
        raise ValueError(f'path="{path}" must be a whole fastmeta checkpoint. {cause} ({error})') from error
    with file:
        metadata = _known(path, file.metadata() or {})
        with refused(path):
            arrays = {name: _outline(name, file.get_slice(name)) for name in file.keys()}  # noqa: SIM118
            outline = _parsed(arrays, json.loads(metadata["description"]))
        yield Opened(path, file, metadata, outline)


@contextmanager
def refused(path: str | os.PathLike[str]) -> Iterator[None]:
    """What fails within is a fault of the file: the ValueError names `path` and what to do."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        cause = str(error)
        if isinstance(error, KeyError):
            cause = f"it has no {cause}"
        elif isinstance(error, json.JSONDecodeError):
            cause = f"its description is not JSON ({cause})"
        cause += "" if cause.endswith((".", "?")) else "."
        raise ValueError(
            f'path="{path}" must be a checkpoint as fastmeta wrote it: {cause} Restore it from a copy, or train anew.'
        ) from error


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


def _known(path: str | os.PathLike[str], metadata: dict[str, str]) -> dict[str, str]:
    """The metadata of a format that this fastmeta reads."""
    if "fastmeta_format" not in metadata:
        raise ValueError(f'path="{path}" must be a fastmeta checkpoint. {_FOREIGN}')
    with refused(path):
        text = metadata["fastmeta_format"]
        version = checks.integer("fastmeta_format", int(text) if text.isdecimal() else text, 1)
    if version > FORMAT:
        raise ValueError(
            f'path="{path}" has checkpoint format {metadata["fastmeta_format"]}; this fastmeta reads up to '
            f"{FORMAT}. Upgrade: pip install --upgrade fastmeta."
        )
    return metadata


def _outline(name: str, part: Any) -> Array:
    """An array of the shape and dtype that a file says, which takes no memory."""
    kinds = {"F16": np.float16, "F32": np.float32, "F64": np.float64}
    if part.get_dtype() not in kinds:
        raise TypeError(f"{name} of dtype {part.get_dtype()} must be float32 or float64")
    return np.broadcast_to(np.zeros((), kinds[part.get_dtype()]), part.get_shape())


def _digest(description: str, arrays: Mapping[str, Array]) -> str:
    """SHA-256 of everything that a checkpoint holds."""
    digest = hashlib.sha256(description.encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode() + arrays[name].tobytes())
    return digest.hexdigest()
