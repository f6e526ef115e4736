"""PyTorch traced to one graph by make_fx, backward passes included, and compiled by inductor.

Variants: `vmap` compiles torch.func's gradient over all tasks, `loop` one task's gradient and calls it in a Python
loop; behind that the words of `torch_peer`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch.fx.experimental.proxy_tensor import make_fx

from benchmarks.peers import torch_layout, torch_peer
from benchmarks.peers.torch_layout import Parameters, device_mb, event_seconds, vector, versions
from benchmarks.workloads import Workload

__all__ = ["build", "device_mb", "event_seconds", "vector", "versions"]


def build(
    workload: Workload, arrays: dict[str, NDArray[Any]], dtype: str, variant: str, device: str
) -> dict[str, Callable[[], Any]]:
    """The calls of a workload; data are in PyTorch's layouts, on the device, before."""
    torch_layout.prepare()
    looped = variant.startswith("loop")
    finished: dict[str, Callable[[], Any]] = {}
    plain = "func" if variant == "vmap" else variant
    for part, (function, arguments) in torch_peer.calls(workload, arrays, plain, device).items():
        if looped:
            function = _loop(
                _compiled(_task_gradient(workload, variant), (arguments[0], *(a[0] for a in arguments[1:])))
            )
        else:
            function = _compiled(function, arguments)
        finished[part] = torch_layout.completed(lambda f=function, a=arguments: f(*a), device)  # type: ignore[misc]
    return finished


def _task_gradient(workload: Workload, variant: str) -> Callable[..., Any]:
    task_loss = torch_peer.eager_task_loss(workload, variant)

    def gradient(p: Parameters, *task: Any) -> Any:
        p = [block.detach().requires_grad_() for block in p]
        return torch.autograd.grad(task_loss(p, *task) / workload.tasks, p)

    return gradient


def _loop(task_gradient: Callable[..., Any]) -> Callable[..., Any]:
    """The sum over tasks."""

    def meta_gradient(p: Parameters, *batch: Any) -> Any:
        total: list[Any] = []
        for task in zip(*batch, strict=True):
            gradient = task_gradient(p, *task)
            if total:
                torch._foreach_add_(total, list(gradient))
            else:
                total = [block.clone() for block in gradient]
        return total

    return meta_gradient


def _compiled(function: Callable[..., Any], example: tuple[Any, ...]) -> Callable[..., Any]:
    compiled: Callable[..., Any] = torch.compile(make_fx(function)(*example))
    return compiled
