"""learn2learn 0.2.0: its MAML around an nn.Module, in a Python loop over tasks as in its examples.

Only `learn2learn.algorithms.maml` and what that needs is imported, because the package's __init__ wants torchvision,
which does not import beside a CPU build of PyTorch. So `start` is less than a user of learn2learn waits.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from benchmarks.networks import MLP, Conv4
from benchmarks.peers import torch_layout
from benchmarks.peers.torch_layout import device_mb, event_seconds
from benchmarks.workloads import Workload

__all__ = ["build", "device_mb", "event_seconds", "vector", "versions"]


def maml() -> Any:
    """The class learn2learn.algorithms.MAML; ModuleNotFoundError where it is not installed."""
    found = importlib.util.find_spec("learn2learn")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("No module named 'learn2learn'", name="learn2learn")
    for name in ("learn2learn", "learn2learn.algorithms"):
        package = types.ModuleType(name)
        package.__path__ = [str(Path(found.origin).parent.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = package
    return importlib.import_module("learn2learn.algorithms.maml").MAML


MAML = maml()


def versions() -> dict[str, str]:
    """Of the packages that compute."""
    return {"learn2learn": importlib.metadata.version("learn2learn")} | torch_layout.versions()


def build(
    workload: Workload, arrays: dict[str, NDArray[Any]], dtype: str, variant: str, device: str
) -> dict[str, Callable[[], Any]]:
    """The calls of a workload; data are in PyTorch's layouts, on the device, before."""
    torch_layout.prepare()
    torch.set_default_dtype(getattr(torch, dtype))
    net = _Network(workload, torch_layout.split(workload, arrays["theta"], device)).to(device)
    names = ("x_support", "y_support", "x_query", "y_query")
    batch = [torch_layout.tensor(arrays[name], device) for name in names]
    loss = F.cross_entropy if workload.labelled else F.mse_loss
    first = {name: values.clone() for name, values in net.state_dict().items()}
    of_head = workload.adapt == "head"
    learned = MAML(net.head if of_head else net, lr=workload.inner_lr, first_order=workload.order == 1)

    def backward() -> None:
        net.zero_grad()
        for x_support, y_support, x_query, y_query in zip(*batch, strict=True):
            learner = learned.clone()
            if of_head:
                x_support, x_query = net.body(x_support), net.body(x_query)
            for _ in range(workload.steps):
                learner.adapt(loss(learner(x_support), y_support))
            (loss(learner(x_query), y_query) / workload.tasks).backward()

    def meta_gradient() -> Any:
        backward()
        return net.in_order([parameter.grad for parameter in net.parameters()])

    def training() -> Any:
        net.load_state_dict(first)
        optimizer = torch.optim.Adam(net.parameters(), 1e-3)
        for _ in range(workload.updates):
            backward()
            optimizer.step()
        return net.in_order([parameter.detach() for parameter in net.parameters()])

    part, call = ("training", training) if workload.updates else ("meta_gradient", meta_gradient)
    return {part: torch_layout.completed(call, device)}


def vector(workload: Workload, result: Any) -> NDArray[Any]:
    """The flat gradient in fastmeta's layouts."""
    return torch_layout.vector(workload, result)


class _Network(nn.Module):
    """`body` and `head` of torch's own layers, with the values of theta."""

    def __init__(self, workload: Workload, blocks: tuple[Any, ...]) -> None:
        super().__init__()
        network = workload.network
        layers: list[nn.Module] = []
        if isinstance(network, MLP):
            for i, o in zip(network.sizes[:-2], network.sizes[1:-1], strict=True):
                layers += [nn.Linear(i, o), nn.ReLU()]
        else:
            assert isinstance(network, Conv4)
            for i in (network.image[2], *[network.channels] * 3):
                stride = 1 if network.pooled else 2
                layers += [
                    nn.Conv2d(i, network.channels, 3, stride, padding=1, bias=False),
                    nn.BatchNorm2d(network.channels, track_running_stats=False),
                    nn.ReLU(),
                ]
                if network.pooled:
                    layers.append(nn.MaxPool2d(2))
            layers += [nn.Flatten()] if network.pooled else [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(blocks[-2].shape[0], network.outputs)
        for parameter, block in zip(self.parameters(), blocks, strict=True):
            parameter.data = (block.T if block.ndim == 2 else block).contiguous()

    def forward(self, x: Any) -> Any:
        return self.head(self.body(x))

    def in_order(self, blocks: list[Any]) -> list[Any]:
        """Blocks of the parameters' shapes with linear weights as (I, O)."""
        return [block.T if block.ndim == 2 else block for block in blocks]
