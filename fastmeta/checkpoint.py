"""Checkpoints: one safetensors file of arrays, with everything else as JSON in its metadata. No pickle."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmeta.networks import Network
from fastmeta.optimizers import State
from fastmeta.training import Training

Array = NDArray[Any]
FORMAT = 1
_FOREIGN = "It was written by another program."


class Checkpoint(NamedTuple):
    """One learner. `hyper_parameters` and `settings` (of fit) are plain JSON values."""

    algorithm: str
    hyper_parameters: dict[str, Any]
    net: Network
    settings: dict[str, Any]
    training: Training
    history: dict[str, Array]  # (step,) each


def write(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a file beside `path`, then rename it: whenever the machine stops, `path` is a whole checkpoint.

    The folder is made where it is missing. Raises OSError where the place cannot be written.
    """
    from safetensors.numpy import save

    algorithm, hyper_parameters, net, settings, training, history = checkpoint
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
    metadata = {"fastmeta_format": str(FORMAT), "description": json.dumps(description)}
    content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if hasattr(os, "O_DIRECTORY"):  # so that the rename itself is on the disk
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read(path: str | os.PathLike[str]) -> Checkpoint:
    """What `write` wrote.

    Raises FileNotFoundError where nothing is there; ValueError where the file is cut short, was not written
    by fastmeta, or has a later format.
    """
    arrays, text = _contents(Path(path))
    description = json.loads(text)
    step = description["step"]
    parameters = {name: values for name, values in arrays.items() if "." not in name}
    moments = {}
    for name in parameters:
        keys = sorted(key for key in arrays if key.startswith(f"optimizer.{name}."))
        moments[name] = State(step, tuple(arrays[key] for key in keys))
    return Checkpoint(
        description["algorithm"],
        description["hyper_parameters"],
        Network.from_dict(description["network"]),
        description["settings"],
        Training(step, parameters, moments),
        {name.removeprefix("history."): values for name, values in arrays.items() if name.startswith("history.")},
    )


def continued(start: Checkpoint, path: str | os.PathLike[str] | None, resume: bool) -> Checkpoint:
    """`start`, or with `resume` the later state of the same run that is at `path`, where one is.

    Raises FileExistsError where `path` exists without `resume`; ValueError where it is not a state of this
    run, naming the shapes or settings that differ.
    """
    if path is None:
        if resume:
            raise ValueError("resume=True must come with a checkpoint. Give the file to go on from.")
        return start
    if not Path(path).exists():
        return start
    if not resume:
        raise FileExistsError(
            f'checkpoint="{path}" must not exist yet. Pass resume=True to go on from it, or remove it.'
        )
    saved = read(path)
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
    return saved


def _contents(path: Path) -> tuple[dict[str, Array], str]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f'path="{path}" must be a checkpoint file. There is no file of that name.')
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        first = path.read_bytes()[8:9]  # of the header, behind its length
        cause = "It is cut short: restore it from a copy." if first in (b"", b"{") else _FOREIGN
        raise ValueError(f'path="{path}" must be a whole fastmeta checkpoint. {cause} ({error})') from error
    if "fastmeta_format" not in metadata:
        raise ValueError(f'path="{path}" must be a fastmeta checkpoint. {_FOREIGN}')
    if int(metadata["fastmeta_format"]) > FORMAT:
        raise ValueError(
            f'path="{path}" has checkpoint format {metadata["fastmeta_format"]}; this fastmeta reads up to '
            f"{FORMAT}. Upgrade: pip install --upgrade fastmeta."
        )
    return arrays, metadata["description"]
