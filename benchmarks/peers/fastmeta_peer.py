"""fastmeta through its public functions, input checks included, on the device of the program's name."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastmeta as fm
from benchmarks import workloads
from benchmarks.workloads import Workload

Array = NDArray[Any]


def versions() -> dict[str, str]:
    """Of the packages that compute."""
    packages = {name: importlib.metadata.version(name) for name in ("numpy", "numba", "llvmlite")}
    return {"fastmeta": fm.__version__} | packages


def build(
    workload: Workload, arrays: dict[str, Array], dtype: str, variant: str, device: str = "cpu"
) -> dict[str, Callable[[], Any]]:
    """The calls of a workload."""
    theta = arrays["theta"]
    net = _network(workload)
    if workload.parts[0] == "hvp":
        x, y, v = arrays["x"], arrays["y"], arrays["v"]
        return {
            "hvp": lambda: fm.hvp(net, theta, v, x, y, device=device),
            "gradient": lambda: fm.gradient(net, theta, x, y, device=device)[1],
        }
    batch = fm.Batch(*(arrays[name] for name in ("x_support", "y_support", "x_query", "y_query")))
    options: dict[str, Any] = {
        "inner_lr": workload.inner_lr,
        "inner_steps": workload.steps,
        "order": workload.order,
        "device": device,
    }
    return {"meta_gradient": lambda: fm.meta_gradient(net, theta, batch, **options).gradient}


def vector(workload: Workload, result: Any) -> Array:
    """(P,): fastmeta's own order."""
    return np.asarray(result)


def _network(workload: Workload) -> fm.Network:
    network = workload.network
    if isinstance(network, workloads.MLP):
        return fm.MLP(network.sizes)
    return fm.Conv4(network.image, network.channels, network.outputs, network.downsample)
