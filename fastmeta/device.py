"""Which machine computes: the names of the backends and how each is found."""

from __future__ import annotations

import importlib
from functools import cache
from typing import cast

from fastmeta import checks
from fastmeta_kernels.contract import Backend

_MODULES = {"cpu": "cpu", "numpy": "reference", "cuda": "cuda"}
DEVICES = tuple(_MODULES)


@cache
def backend(device: str) -> Backend:
    """The module that computes on "cpu" (Numba), "numpy" (the reference) or "cuda" (CuPy); imported on the first call.

    Raises ValueError for an unknown device; for "cuda" ModuleNotFoundError without CuPy, DeviceError without a GPU
    that can run the kernels.
    """
    checks.choice("device", device, DEVICES)
    module = importlib.import_module(f"fastmeta_kernels.{_MODULES[device]}")
    if device == "cuda":
        module.ready()
    return cast(Backend, module)
