"""One safetensors file of arrays, with everything else as JSON in its metadata and a checksum of both. No pickle."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from fastmeta import checks
from fastmeta_kernels.contract import Array
from fastmeta_kernels.files import written_beside
from fastmeta_kernels.memory import free_bytes

FORMAT = 1
KINDS = {"F16": np.float16, "F32": np.float32, "F64": np.float64}
_FOREIGN = "It was written by another program."


def write(path: str | os.PathLike[str], arrays: Mapping[str, Array], description: Mapping[str, Any]) -> None:
    """Write a file beside `path`, then rename it: whenever the machine stops, `path` is a whole file.

    The folder is made where it is missing. Raises OSError where the place cannot be written.
    """
    from safetensors.numpy import save

    text = json.dumps(description)
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    metadata = {"fastmeta_format": str(FORMAT), "description": text, "sha256": _digest(text, whole)}
    os.makedirs(os.path.dirname(os.fspath(path)) or os.curdir, exist_ok=True)
    with written_beside(path, durable=True) as file:
        file.write(save(whole, metadata))


class Archive(NamedTuple):
    """A file that is open, of a format that this fastmeta reads."""

    path: str | os.PathLike[str]
    file: Any
    metadata: dict[str, str]

    def description(self) -> Any:
        """What JSON says; within `refused`."""
        return json.loads(self.metadata["description"])

    def outlines(self, others: Mapping[str, Any] | None = None) -> dict[str, Array]:
        """Arrays of the shapes and dtypes that the file says, which take no memory; of floats, and of `others`."""
        parts = {name: self.file.get_slice(name) for name in self.file.keys()}  # noqa: SIM118
        return {name: _outline(name, part, KINDS | dict(others or {})) for name, part in parts.items()}

    def arrays(self) -> dict[str, Array]:
        """All arrays; ValueError where a bit of the file has changed."""
        arrays = {name: self.file.get_tensor(name) for name in self.file.keys()}  # noqa: SIM118
        text = self.metadata["description"]
        if self.metadata.get("sha256") not in (None, _digest(text, arrays)):  # older files have none
            raise ValueError("its checksum is that of other content: it was damaged or edited.")
        return arrays


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Archive]:
    """A file that `write` wrote, of which nothing but the header is read.

    Raises FileNotFoundError where nothing is there; ValueError where the file is cut short, was not written
    by fastmeta, has a later format, or would not fit the memory.
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
        yield Archive(path, file, _known(path, file.metadata() or {}))


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


def _outline(name: str, part: Any, kinds: Mapping[str, Any]) -> Array:
    if part.get_dtype() not in kinds:
        raise TypeError(f"{name} of dtype {part.get_dtype()} must be float32 or float64")
    return np.broadcast_to(np.zeros((), kinds[part.get_dtype()]), part.get_shape())


def _digest(description: str, arrays: Mapping[str, Array]) -> str:
    """SHA-256 of everything that a file holds."""
    digest = hashlib.sha256(description.encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode() + arrays[name].tobytes())
    return digest.hexdigest()
