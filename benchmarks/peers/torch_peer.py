"""PyTorch without a compiler.

Variants: `eager` is a Python loop over tasks with create_graph, as most published code has it; `func` is
torch.func's grad over vmap. `native-norm` takes torch's batch norm instead of its equation, `channels-last` the memory
format of that name, `patches` unfolds images for one product. Hessian-vector products forward over reverse
(torch.func), or reverse over reverse (double backward).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import func

from benchmarks.networks import MLP, Conv4
from benchmarks.peers import torch_layout
from benchmarks.peers.torch_layout import Parameters, device_mb, event_seconds, vector, versions
from benchmarks.workloads import Workload

__all__ = ["build", "device_mb", "event_seconds", "vector", "versions"]

Function = Callable[..., Any]
Calls = dict[str, tuple[Function, tuple[Any, ...]]]  # part -> function and its arguments


def build(
    workload: Workload, arrays: dict[str, NDArray[Any]], dtype: str, variant: str, device: str
) -> dict[str, Callable[[], Any]]:
    """The calls of a workload; data are in PyTorch's layouts, on the device, before."""
    torch_layout.prepare()
    return {
        part: torch_layout.completed(lambda f=function, a=arguments: f(*a), device)  # type: ignore[misc]
        for part, (function, arguments) in calls(workload, arrays, variant, device).items()
    }


def calls(workload: Workload, arrays: dict[str, NDArray[Any]], variant: str, device: str) -> Calls:
    """What a variant calls with what; `inductor` compiles these functions."""
    p = torch_layout.split(workload, arrays["theta"], device)
    data = {name: torch_layout.tensor(a, device) for name, a in arrays.items() if name not in ("theta", "v")}
    if "channels-last" in variant:
        p = tuple(_channels_last(block) for block in p)
        data = {name: _channels_last(a) for name, a in data.items()}
    loss = loss_of(workload, variant)
    if workload.parts[0] == "hvp":
        v = torch_layout.split(workload, arrays["v"], device)
        hvp = _forward_over_reverse(loss) if variant.startswith("forward") else _reverse_over_reverse(loss)
        x, y = data["x"], data["y"]
        return {"hvp": (hvp, (p, v, x, y)), "gradient": (_gradient(loss), (p, x, y))}
    batch = tuple(data[name] for name in ("x_support", "y_support", "x_query", "y_query"))
    if workload.kind == "head":
        return {"gradient": (_head_gradient(workload), (batch[0], batch[2], batch[3]))}
    if workload.kind == "protonet":
        arguments = (p, torch.cat((batch[0][0], batch[2][0])), batch[3][0])
        if "channels-last" in variant:
            arguments = (p, _channels_last(arguments[1]), arguments[2])
        return {"gradient": (_gradient(_episode_loss(workload, variant)), arguments)}
    meta_gradient = functional(workload, loss) if variant == "func" else _eager(workload, variant)
    return {"meta_gradient": (meta_gradient, (p, *batch))}


def _eager(workload: Workload, variant: str) -> Function:
    task_loss = eager_task_loss(workload, variant)

    def meta_gradient(p: Parameters, *batch: Any) -> Any:
        p = [block.detach().requires_grad_() for block in p]
        for task in zip(*batch, strict=True):
            (task_loss(p, *task) / workload.tasks).backward()
        return [block.grad for block in p]

    return meta_gradient


def eager_task_loss(workload: Workload, variant: str) -> Function:
    """The query loss of one task after its inner steps, with a graph of them."""
    loss, head_loss = loss_of(workload, variant), _head_loss

    def steps(p: Parameters, inner_loss: Function, x: Any, y: Any) -> Parameters:
        for _ in range(workload.steps):
            gradient = torch.autograd.grad(inner_loss(p, x, y), p, create_graph=workload.order == 2)
            p = [block - workload.inner_lr * g for block, g in zip(p, gradient, strict=True)]
        return p

    def task_loss(p: Parameters, x_support: Any, y_support: Any, x_query: Any, y_query: Any) -> Any:
        if workload.adapt == "head":
            assert isinstance(workload.network, Conv4)
            support, query = (body(workload.network, p, x, variant) for x in (x_support, x_query))
            return head_loss(steps(p[-2:], head_loss, support, y_support), query, y_query)
        return loss(steps(p, loss, x_support, y_support), x_query, y_query)

    return task_loss


def functional(workload: Workload, loss: Function) -> Function:
    """torch.func's gradient of the mean over a vmap of tasks."""

    def task_loss(p: Parameters, x_support: Any, y_support: Any, x_query: Any, y_query: Any) -> Any:
        for _ in range(workload.steps):
            gradient = func.grad(loss)(tuple(p), x_support, y_support)
            if workload.order == 1:
                gradient = [g.detach() for g in gradient]
            p = [block - workload.inner_lr * g for block, g in zip(p, gradient, strict=True)]
        return loss(p, x_query, y_query)

    losses = func.vmap(task_loss, (None, 0, 0, 0, 0))
    gradient: Function = func.grad(lambda p, *batch: losses(p, *batch).mean())
    return gradient


def _gradient(loss: Function) -> Function:
    def gradient(p: Parameters, x: Any, y: Any) -> Any:
        p = [block.detach().requires_grad_() for block in p]
        return torch.autograd.grad(loss(p, x, y), p)

    return gradient


def _reverse_over_reverse(loss: Function) -> Function:
    def hvp(p: Parameters, v: Parameters, x: Any, y: Any) -> Any:
        p = [block.detach().requires_grad_() for block in p]
        gradient = torch.autograd.grad(loss(p, x, y), p, create_graph=True)
        return torch.autograd.grad(gradient, p, grad_outputs=v)

    return hvp


def _forward_over_reverse(loss: Function) -> Function:
    return lambda p, v, x, y: func.jvp(lambda q: func.grad(loss)(q, x, y), (p,), (v,))[1]


def _head_gradient(workload: Workload) -> Function:
    """By support and query embeddings (T, N, D), each episode by its own mean loss."""

    def gradient(support: Any, query: Any, labels: Any) -> Any:
        support, query = (z.detach().requires_grad_() for z in (support, query))
        return torch.autograd.grad(_prototype_losses(workload, support, query, labels).sum(), (support, query))

    return gradient


def _episode_loss(workload: Workload, variant: str) -> Function:
    def loss(p: Parameters, x: Any, labels: Any) -> Any:
        assert isinstance(workload.network, Conv4)
        z = body(workload.network, p, x, variant)[None]
        n = workload.support
        return _prototype_losses(workload, z[:, :n], z[:, n:], labels[None])[0]

    return loss


def _prototype_losses(workload: Workload, support: Any, query: Any, labels: Any) -> Any:
    """(T,): squared distances to the class means as logits; support labels are 0, 1, ... in turn."""
    episodes, n, features = support.shape
    prototypes = support.reshape(episodes, n // workload.ways, workload.ways, features).mean(1)
    distances = (
        (query * query).sum(-1)[..., None] - 2 * query @ prototypes.mT + (prototypes * prototypes).sum(-1)[:, None]
    )
    return -F.log_softmax(-distances, -1).gather(-1, labels[..., None]).mean((1, 2))


def loss_of(workload: Workload, variant: str) -> Function:
    """The mean loss of a set."""

    def loss(p: Parameters, x: Any, y: Any) -> Any:
        network = workload.network
        if isinstance(network, MLP):
            outputs = _mlp(p, x)
            return _cross_entropy(outputs, y) if workload.labelled else ((outputs - y) ** 2).mean()
        assert isinstance(network, Conv4)
        return _head_loss(p[-2:], body(network, p, x, variant), y)

    return loss


def _head_loss(p: Parameters, features: Any, y: Any) -> Any:
    return _cross_entropy(features @ p[0] + p[1], y)


def _cross_entropy(outputs: Any, y: Any) -> Any:
    return -F.log_softmax(outputs, -1).gather(1, y[:, None]).mean()


def _mlp(p: Parameters, x: Any) -> Any:
    for weight, bias in zip(p[:-2:2], p[1:-2:2], strict=True):
        x = F.relu(x @ weight + bias)
    return x @ p[-2] + p[-1]


def body(network: Conv4, p: Parameters, x: Any, variant: str) -> Any:
    """Features (N, F) of images."""
    convolution = _patches_convolution if "patches" in variant else _convolution
    norm = _native_norm if "native-norm" in variant else _norm
    for kernel, scale, shift in zip(p[0:12:3], p[1:12:3], p[2:12:3], strict=True):
        x = F.relu(norm(convolution(x, kernel, 1 if network.pooled else 2), scale, shift))
        if network.pooled:
            x = F.max_pool2d(x, 2)
    return x.flatten(1) if network.pooled else x.mean((2, 3))


def _convolution(x: Any, kernel: Any, stride: int) -> Any:
    return F.conv2d(x, kernel, stride=stride, padding=1)


def _patches_convolution(x: Any, kernel: Any, stride: int) -> Any:
    height, width = ((side - 1) // stride + 1 for side in x.shape[2:])
    columns = kernel.reshape(len(kernel), -1) @ F.unfold(x, 3, padding=1, stride=stride)  # (N, O, H W)
    return columns.reshape(len(x), -1, height, width)


def _norm(x: Any, scale: Any, shift: Any) -> Any:
    centred = x - x.mean((0, 2, 3), keepdim=True)
    variance = (centred * centred).mean((0, 2, 3), keepdim=True)
    return centred * (scale[:, None, None] * torch.rsqrt(variance + 1e-5)) + shift[:, None, None]


def _native_norm(x: Any, scale: Any, shift: Any) -> Any:
    return F.batch_norm(x, None, None, scale, shift, True, 0.0, 1e-5)


def _channels_last(array: Any) -> Any:
    if array.ndim == 4:
        return array.contiguous(memory_format=torch.channels_last)
    if array.ndim == 5:
        return _channels_last(array.flatten(0, 1)).unflatten(0, array.shape[:2])
    return array
