"""One file of an adapted model: its network, its arrays, the names of its classes and how pictures become samples."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from fastmeta import checks
from fastmeta import device as devices
from fastmeta.learning import archive
from fastmeta.learning.archive import Archive, refused
from fastmeta.learning.checkpoint import preparation_of
from fastmeta.networks.network import Network
from fastmeta_kernels import host
from fastmeta_kernels.contract import Array, PrototypeHead

LABELS = {"I64": np.int64}
APART = ("net", "device", "names", "preparation", "head")


def write(path: str | os.PathLike[str], model: Any) -> None:
    """Write a model as `archive.write` does; TypeError where a name of a class cannot be written."""
    values = {name: host.on_host(value) for name, value in model._asdict().items() if name not in APART}
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    description: dict[str, Any] = {
        "model": type(model).__name__,
        "algorithm": model.algorithm,
        "network": model.net.to_dict(),
        "settings": {name: value for name, value in values.items() if isinstance(value, bool | int | float)},
        "names": [_described(name) for name in model.names],
    }
    if model.preparation is not None:
        description["preparation"] = model.preparation.to_dict()
    if (head := getattr(model, "head", None)) is not None:
        description["head"] = list(head)
    archive.write(path, arrays, description)


def read(file: Archive, kinds: dict[str, Any], device: str | None) -> Any:
    """What `write` wrote, of one of these classes; ValueError where a bit of it has changed, or it is no such model."""
    with refused(file.path):
        description = file.description()
        net = Network.from_dict(description["network"])
        _check(file.outlines(LABELS), net)
        arrays = file.arrays()
        for name, array in arrays.items():
            checks.finite(name, array)
        own = "Import the module that defines it before you load it, where it is your own."
        kind = kinds[checks.choice("model", description["model"], kinds, own)]
        parts: dict[str, Any] = {"net": net, **arrays, **description["settings"]}
        if "head" in description:
            parts["head"] = PrototypeHead(*description["head"])
        if device is None:
            device = "numpy" if devices.starts_faster_with_numpy(net.table, 1) else "cpu"
        names = tuple(map(_named, description["names"]))
        return kind(**parts, device=device, names=names, preparation=preparation_of(description))


def _check(arrays: dict[str, Array], net: Network) -> None:
    theta, count = arrays["theta"], net.parameter_count
    if theta.shape[-1:] != (count,) or theta.ndim > 2:
        raise ValueError(f"theta of shape {theta.shape} must be ({count},), or ({count},) a task, for {net}")
    for name, array in arrays.items():
        if array.dtype not in ((np.int64,) if name == "y_support" else (np.float32, np.float64)):
            raise TypeError(f"{name} must not be of dtype {array.dtype}")


def _described(name: Any) -> Any:
    """A name as JSON."""
    if isinstance(name, tuple):
        return {"tuple": [_described(part) for part in name]}
    if type(name) not in (str, int, float, bool):
        raise TypeError(
            f"names of classes such as {name!r} must be strings, numbers, True, False or tuples of these to be saved. "
            "Adapt with other names."
        )
    return name


def _named(described: Any) -> Any:
    return tuple(map(_named, described["tuple"])) if isinstance(described, dict) else described
