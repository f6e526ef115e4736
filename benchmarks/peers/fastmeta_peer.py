"""fastmeta through its public functions, input checks included, from NumPy arrays to NumPy arrays."""

from __future__ import annotations

import contextlib
import importlib.metadata
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastmeta as fm
from benchmarks.networks import MLP, Conv4
from benchmarks.workloads import DRAWING, Workload

Array = NDArray[Any]


def versions() -> dict[str, str]:
    """Of the packages that compute."""
    found = {"fastmeta": fm.__version__}
    for package in ("numpy", "numba", "llvmlite", "cupy-cuda13x", "cupy-cuda12x"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def build(
    workload: Workload, arrays: dict[str, Array], dtype: str, variant: str, device: str
) -> dict[str, Callable[[], Any]]:
    """The calls of a workload."""
    theta = arrays["theta"]
    if workload.parts[0] == "hvp":
        net, x, y, v = _network(workload), arrays["x"], arrays["y"], arrays["v"]
        return {
            "hvp": lambda: fm.hvp(net, theta, v, x, y, device=device),
            "gradient": lambda: fm.gradient(net, theta, x, y, device=device)[1],
        }
    data = tuple(arrays[name] for name in ("x_support", "y_support", "x_query", "y_query"))
    if workload.kind == "head":
        support, y_support, query, y_query = data
        return {"gradient": lambda: fm.prototype_loss(support, y_support, query, y_query, device=device)[1:]}
    net, batch = _network(workload), fm.Batch(*data)
    if workload.kind == "protonet":
        return {"gradient": _prototype_gradient(net, theta, batch, device)}
    if workload.updates:
        return {part: _training(workload, part, net, theta, batch, device) for part in workload.parts}
    options: dict[str, Any] = {
        "inner_lr": workload.inner_lr,
        "inner_steps": workload.steps,
        "order": workload.order,
        "adapt": workload.adapt,
        "device": device,
    }
    return {"meta_gradient": lambda: fm.meta_gradient(net, theta, batch, **options).gradient}


def _prototype_gradient(net: fm.Network, theta: Array, batch: fm.Batch, device: str) -> Callable[[], Any]:
    """A ProtoNet's training gradient at theta."""
    learner = fm.ProtoNet(net, device=device)
    learner.fit(_OneBatch(batch), iterations=1, tasks_per_step=1, optimizer=fm.SGD(1e-30), theta=theta)  # moves nothing
    return lambda: learner.meta_gradients(batch)[1]["theta"]


def _training(
    workload: Workload, part: str, net: fm.Network, theta: Array, batch: fm.Batch, device: str
) -> Callable[[], Any]:
    """Updates by Adam from theta on, of sinusoids that are drawn or of the given tasks; the parameters behind them."""
    learner = fm.MAML(net, workload.inner_lr, workload.steps, device=device)
    drawn = fm.tasks.Sinusoid(workload.support, workload.query)
    source = drawn if part == DRAWING else _OneBatch(batch)
    options = {"tasks_per_step": workload.tasks, "optimizer": fm.Adam(1e-3)}
    return lambda: learner.fit(source, workload.updates_of(part), theta=theta, **options).theta


class _OneBatch:
    """A source of tasks that has one batch."""

    def __init__(self, batch: fm.Batch) -> None:
        self.batch = batch

    def sample(self, tasks: int, seed: int, step: int = 0) -> fm.Batch:
        return self.batch


def vector(workload: Workload, result: Any) -> Array:
    """The flat result in fastmeta's own order."""
    return np.concatenate([np.asarray(part).ravel() for part in (result if isinstance(result, tuple) else (result,))])


def event_seconds(call: Callable[[], Any]) -> float:
    """One call by the GPU's clock."""
    import cupy

    start, stop = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    call()
    stop.record()
    stop.synchronize()
    return float(cupy.cuda.get_elapsed_time(start, stop)) / 1e3


def device_mb() -> float:
    """Memory that CuPy has taken from the GPU and holds."""
    return float(sys.modules["cupy"].get_default_memory_pool().total_bytes()) / 2**20


def _network(workload: Workload) -> fm.Network:
    network = workload.network
    if isinstance(network, MLP):
        return fm.MLP(network.sizes)
    assert isinstance(network, Conv4)
    return fm.Conv4(network.image, network.channels, network.outputs or None, network.downsample)
