"""NumPy: fastmeta's reference backend, batched over tasks and written like the equations."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from benchmarks.peers import fastmeta_peer
from benchmarks.peers.fastmeta_peer import vector
from benchmarks.workloads import Workload

__all__ = ["build", "vector", "versions"]


def versions() -> dict[str, str]:
    """Of the package that computes."""
    return {"numpy": importlib.metadata.version("numpy")}


def build(
    workload: Workload, arrays: dict[str, NDArray[Any]], dtype: str, variant: str, device: str
) -> dict[str, Callable[[], Any]]:
    """The calls of a workload; on the CPU whatever `device` is."""
    return fastmeta_peer.build(workload, arrays, dtype, variant, "numpy")
