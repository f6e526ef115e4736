"""Which machine computes: the names of the backends and how each is found."""

from __future__ import annotations

import importlib
import sys
import warnings
from functools import cache
from typing import Any, cast

from fastmeta import checks
from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.contract import Backend, DeviceError
from fastmeta_kernels.layer_table import Table

_MODULES = {"cpu": "cpu", "numpy": "reference", "cuda": "cuda"}
DEVICES = tuple(_MODULES)
NUMBA_WORK = 50_000_000  # multiply-adds of linear layers that NumPy does before Numba and its kernels are loaded
LIBRARY_WORK = 4_000_000  # likewise, before those of a library are


@cache
def backend(device: str) -> Backend:
    """The module that computes on "cpu", "numpy" (the reference) or "cuda" (CuPy); imported on the first call.

    The kernels of "cpu" are those of the library that came with this installation, else Numba compiles them.
    Raises ValueError for an unknown device; DeviceError for "cpu" where Numba is told not to compile, for "cuda"
    without a GPU that can run the kernels, and for "numpy" where NumPy multiplies matrices wrongly;
    ModuleNotFoundError for "cuda" without CuPy. Without a library and without Numba "cpu" is "numpy", and a warning
    says so.
    """
    checks.choice("device", device, DEVICES)
    if device == "cpu" and _library().loaded() is None:
        if not _has_numba():
            warnings.warn(
                'Numba is not installed: device="cpu" computes with NumPy, which takes many times as long for images. '
                "For its kernels: pip install numba.",
                RuntimeWarning,
                stacklevel=2,
            )
            return backend("numpy")
        if importlib.import_module("numba").config.DISABLE_JIT:
            raise DeviceError(
                'device="cpu" must compile its kernels, which NUMBA_DISABLE_JIT forbids. Unset it, or use '
                'device="numpy", the reference, which a debugger steps through.'
            )
    module = importlib.import_module(f"fastmeta_kernels.{_MODULES[device]}")
    if device != "cpu":
        module.ready()
    return cast(Backend, module)


def compiles(device: str) -> bool:
    """Whether kernels of a device are compiled by Numba where no process of this machine has run them."""
    return device == "cpu" and _library().loaded() is None and _has_numba()


def kernels_in_use() -> str:
    """Where the kernels of device="cpu" come from in this process, in words."""
    library = _library()
    instead = "compiled by Numba" if _has_numba() else "NumPy, as Numba is not installed"
    return str(library.in_use() if library.loaded() else f"{instead} ({library.in_use()})")


def _library() -> Any:
    return importlib.import_module("fastmeta_kernels.library")


def _has_numba() -> bool:
    from importlib.util import find_spec

    return find_spec("numba") is not None


def starts_faster_with_numpy(table: Table, passes: int) -> bool:
    """Whether so many forward and backward passes of one sample are done before the kernels would be ready."""
    if {lt.CONVOLUTION, lt.MAX_POOL} & set(table[:, lt.KIND].tolist()):
        return False
    if "numba" in sys.modules or "fastmeta_kernels.cpu" in sys.modules:
        return False
    work = passes * lt.parameter_count(table)
    return work < LIBRARY_WORK or (work < NUMBA_WORK and _library().loaded() is None)
