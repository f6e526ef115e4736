"""What must be the same on every rank, as short texts that can be compared: program versions, data, arguments."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from fastmeta_kernels import library
from fastmeta_kernels.host import is_elsewhere, on_host

SUFFIXES = (".py", ".pyi", ".cu", ".cuh")


def versions() -> dict[str, str]:
    """The interpreter, NumPy, Numba and a hash of every source file of fastmeta, whatever its version says; also what
    kind of processor a library is for, where one has the kernels."""
    digest = hashlib.sha256()
    for package in ("fastmeta", "fastmeta_kernels"):
        spec = find_spec(package)
        for root in (spec.submodule_search_locations or ()) if spec else ():
            for path in sorted(p for p in Path(root).rglob("*") if p.suffix in SUFFIXES):
                digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    found = {"fastmeta": digest.hexdigest()[:16], "python": sys.version.split()[0], "numpy": np.__version__}
    found |= {"numba": _version("numba")} if find_spec("numba") else {}
    compiled = library.loaded()
    return found | ({"kernels": compiled.level.name} if compiled else {})


def of_data(tasks: Any) -> str:
    """A hash of all that a source of tasks holds, or where it cannot be looked into, of the first task it draws."""
    digest = hashlib.sha256()
    add(digest, tasks)
    first = tasks.sample(1, seed=0, step=0)
    add(digest, first if is_dataclass(first) else type(first).__name__)
    return digest.hexdigest()[:16]


def of(value: Any) -> str:
    """A hash of a value, as `add` sees it."""
    digest = hashlib.sha256()
    add(digest, value)
    return digest.hexdigest()[:16]


def add(digest: Any, value: Any, depth: int = 8) -> None:
    """Feed a value to a hash: numbers, texts and arrays by their bits, dataclasses and containers by their parts."""
    if is_elsewhere(value):
        value = on_host(value)
    digest.update(type(value).__name__.encode())
    if isinstance(value, np.ndarray) and value.dtype != object:
        digest.update(f"{value.dtype} {value.shape}".encode())
        digest.update(np.ascontiguousarray(value).data)
    elif value is None or isinstance(value, bool | int | float | complex | str | np.generic):
        digest.update(repr(value).encode())
    elif isinstance(value, bytes):
        digest.update(value)
    elif depth and is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            add(digest, getattr(value, field.name), depth - 1)
    elif depth and isinstance(value, list | tuple | Mapping):
        for part in value.items() if isinstance(value, Mapping) else value:
            add(digest, part, depth - 1)


def differing(names: list[dict[str, str]]) -> str:
    """What of these texts, a dict for each rank, is not the same on all; "" where all is."""
    for name in dict.fromkeys(name for found in names for name in found):
        values = [found.get(name, "nothing") for found in names]
        if len(set(values)) > 1:
            other = next(r for r, value in enumerate(values) if value != values[0])
            return f"{name}={values[other]} of rank {other} must be {values[0]}, as of rank 0."
    return ""


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)
