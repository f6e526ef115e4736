"""Arrays and memory of the host: what a backend that computes there says of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmeta_kernels.memory import free_bytes

__all__ = ["free_bytes", "is_elsewhere", "is_own", "on_device", "on_host"]


def is_elsewhere(value: Any) -> bool:
    """Whether `value` is an array on a GPU, CuPy's or another library's."""
    return type(value) is not np.ndarray and hasattr(value, "__cuda_array_interface__")


def is_own(value: Any) -> bool:
    """Whether the host can compute on `value` where it lies."""
    return not is_elsewhere(value)


def on_host(values: Any) -> Any:
    """`values` as a NumPy array where they lie on a GPU, else as they are."""
    return values.get() if is_elsewhere(values) and hasattr(values, "get") else values


on_device = on_host  # the host is the device
