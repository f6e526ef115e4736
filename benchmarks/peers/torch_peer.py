"""PyTorch on the CPU, in its own layouts: images (N, C, H, W), kernels (O, I, 3, 3).

Variants: `eager` is a Python loop over tasks with create_graph, as most published code has it; `func` is
torch.func's grad over vmap; `inductor` is the same traced to one graph and compiled. Hessian-vector products
forward over reverse (torch.func), reverse over reverse (double backward), and the latter compiled.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import func

from benchmarks.workloads import MLP, Conv4, Workload

Parameters = Sequence[Any]


def versions() -> dict[str, str]:
    """Of the package that computes."""
    return {"torch": torch.__version__}


def build(
    workload: Workload, arrays: dict[str, NDArray[Any]], dtype: str, variant: str
) -> dict[str, Callable[[], Any]]:
    """The calls of a workload; data are in PyTorch's layouts before."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    p = _split(workload, arrays["theta"])
    data = {name: _tensor(a) for name, a in arrays.items() if name not in ("theta", "v")}
    loss = _loss(workload)
    if workload.parts[0] == "hvp":
        v = _split(workload, arrays["v"])
        x, y = data["x"], data["y"]
        hvp = _forward_over_reverse(loss) if variant == "forward-over-reverse" else _reverse_over_reverse(loss)
        gradient = _gradient(loss)
        if variant == "inductor":
            hvp, gradient = _inductor(hvp, (p, v, x, y)), _inductor(gradient, (p, x, y))
        return {"hvp": lambda: hvp(p, v, x, y), "gradient": lambda: gradient(p, x, y)}
    batch = tuple(data[name] for name in ("x_support", "y_support", "x_query", "y_query"))
    meta_gradient = _eager(workload, loss) if variant == "eager" else _functional(workload, loss)
    if variant == "inductor":
        meta_gradient = _inductor(meta_gradient, (p, *batch))
    return {"meta_gradient": lambda: meta_gradient(p, *batch)}


def vector(workload: Workload, result: Any) -> NDArray[Any]:
    """(P,) in fastmeta's layouts."""
    blocks = [block.detach() for block in result]
    network = workload.network
    if isinstance(network, Conv4) and network.pooled:
        h, w = network.sides[-1]
        blocks[-2] = blocks[-2].reshape(network.channels, h, w, -1).permute(1, 2, 0, 3)
    blocks = [block.permute(2, 3, 1, 0) if i < 12 and block.ndim == 4 else block for i, block in enumerate(blocks)]
    return np.concatenate([block.numpy().ravel() for block in blocks])


def _eager(workload: Workload, loss: Callable[..., Any]) -> Callable[..., Any]:
    def meta_gradient(p: Parameters, *batch: Any) -> Any:
        p = [block.detach().requires_grad_() for block in p]
        for x_support, y_support, x_query, y_query in zip(*batch, strict=True):
            phi: Parameters = p
            for _ in range(workload.steps):
                gradient = torch.autograd.grad(loss(phi, x_support, y_support), phi, create_graph=workload.order == 2)
                phi = [block - workload.inner_lr * g for block, g in zip(phi, gradient, strict=True)]
            (loss(phi, x_query, y_query) / workload.tasks).backward()
        return [block.grad for block in p]

    return meta_gradient


def _functional(workload: Workload, loss: Callable[..., Any]) -> Callable[..., Any]:
    def task_loss(p: Parameters, x_support: Any, y_support: Any, x_query: Any, y_query: Any) -> Any:
        for _ in range(workload.steps):
            gradient = func.grad(loss)(tuple(p), x_support, y_support)
            if workload.order == 1:
                gradient = [g.detach() for g in gradient]
            p = [block - workload.inner_lr * g for block, g in zip(p, gradient, strict=True)]
        return loss(p, x_query, y_query)

    losses = func.vmap(task_loss, (None, 0, 0, 0, 0))
    gradient: Callable[..., Any] = func.grad(lambda p, *batch: losses(p, *batch).mean())
    return gradient


def _gradient(loss: Callable[..., Any]) -> Callable[..., Any]:
    def gradient(p: Parameters, x: Any, y: Any) -> Any:
        p = [block.detach().requires_grad_() for block in p]
        return torch.autograd.grad(loss(p, x, y), p)

    return gradient


def _reverse_over_reverse(loss: Callable[..., Any]) -> Callable[..., Any]:
    def hvp(p: Parameters, v: Parameters, x: Any, y: Any) -> Any:
        p = [block.detach().requires_grad_() for block in p]
        gradient = torch.autograd.grad(loss(p, x, y), p, create_graph=True)
        return torch.autograd.grad(gradient, p, grad_outputs=v)

    return hvp


def _forward_over_reverse(loss: Callable[..., Any]) -> Callable[..., Any]:
    return lambda p, v, x, y: func.jvp(lambda q: func.grad(loss)(q, x, y), (p,), (v,))[1]


def _inductor(function: Callable[..., Any], example: tuple[Any, ...]) -> Callable[..., Any]:
    from torch.fx.experimental.proxy_tensor import make_fx

    compiled: Callable[..., Any] = torch.compile(make_fx(function)(*example))
    return compiled


def _loss(workload: Workload) -> Callable[..., Any]:
    def loss(p: Parameters, x: Any, y: Any) -> Any:
        network = workload.network
        outputs = _mlp(p, x) if isinstance(network, MLP) else _conv4(network, p, x)
        if not workload.labelled:
            return ((outputs - y) ** 2).mean()
        return -F.log_softmax(outputs, -1).gather(1, y[:, None]).mean()

    return loss


def _mlp(p: Parameters, x: Any) -> Any:
    for weight, bias in zip(p[:-2:2], p[1:-2:2], strict=True):
        x = F.relu(x @ weight + bias)
    return x @ p[-2] + p[-1]


def _conv4(network: Conv4, p: Parameters, x: Any) -> Any:
    for kernel, scale, shift in zip(p[0:12:3], p[1:12:3], p[2:12:3], strict=True):
        x = F.conv2d(x, kernel, stride=1 if network.pooled else 2, padding=1)
        centred = x - x.mean((0, 2, 3), keepdim=True)
        variance = (centred * centred).mean((0, 2, 3), keepdim=True)
        x = F.relu(centred * (scale[:, None, None] * torch.rsqrt(variance + 1e-5)) + shift[:, None, None])
        if network.pooled:
            x = F.max_pool2d(x, 2)
    x = x.flatten(1) if network.pooled else x.mean((2, 3))
    return x @ p[-2] + p[-1]


def _split(workload: Workload, theta: NDArray[Any]) -> tuple[Any, ...]:
    """The blocks of theta in PyTorch's layouts; the head of a pooled network reads its features in C, H, W order."""
    network, shapes = workload.network, workload.network.parameter_shapes
    ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
    blocks = [block.reshape(shape) for block, shape in zip(np.split(theta, ends), shapes, strict=True)]
    if isinstance(network, Conv4) and network.pooled:
        h, w = network.sides[-1]
        blocks[-2] = blocks[-2].reshape(h, w, network.channels, -1).transpose(2, 0, 1, 3).reshape(shapes[-2])
    return tuple(torch.tensor(np.ascontiguousarray(b.transpose(3, 2, 0, 1) if b.ndim == 4 else b)) for b in blocks)


def _tensor(array: NDArray[Any]) -> Any:
    """Images (..., H, W, C) become (..., C, H, W)."""
    return torch.tensor(np.ascontiguousarray(np.moveaxis(array, -1, -3)) if array.ndim >= 4 else array)
