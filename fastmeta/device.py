"""Which machine computes: the names of the backends and how each is found."""

from __future__ import annotations

import importlib
from functools import cache
from typing import cast

from fastmeta import checks
from fastmeta_kernels.contract import Backend

DEVICES = ("cpu", "numpy", "cuda")


@cache
def backend(device: str) -> Backend:
    """The module that computes on "cpu" (Numba) or "numpy" (the reference); imported on the first call.

    Raises ValueError for an unknown device, ImportError for "cuda", which has no kernels in this version.
    """
    checks.choice("device", device, DEVICES)
    if device == "cuda":
        raise ImportError('device="cuda" has no kernels in this version of fastmeta. Use device="cpu".')
    module = {"cpu": "cpu", "numpy": "reference"}[device]
    return cast(Backend, importlib.import_module(f"fastmeta_kernels.{module}"))
