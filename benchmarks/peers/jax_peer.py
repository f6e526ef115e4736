"""JAX on the CPU: everything under one `jit`.

Variants: `vmap` is the gradient of the mean over a vmap of tasks, `vmap-of-gradients` the mean over a vmap of
gradients, `map` a scan over tasks that adds up their gradients. `convolution` is XLA's own, `patches` nine shifted
slices and one matrix product. Hessian-vector products forward over reverse, or reverse over reverse.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
from jax import lax
from numpy.typing import NDArray

from benchmarks.workloads import MLP, Conv4, Workload

Parameters = list[Any]


def versions() -> dict[str, str]:
    """Of the packages that compute."""
    return {"jax": jax.__version__, "jaxlib": jaxlib.__version__}


def build(
    workload: Workload, arrays: dict[str, NDArray[Any]], dtype: str, variant: str
) -> dict[str, Callable[[], Any]]:
    """The calls of a workload; data are on the device before."""
    jax.config.update("jax_enable_x64", dtype == "float64")
    p = [jnp.asarray(block) for block in _split(workload, arrays["theta"])]
    data = {name: jnp.asarray(a) for name, a in arrays.items() if name not in ("theta", "v")}
    loss = _loss(workload, patches=variant.endswith("patches"))
    if workload.parts[0] == "hvp":
        v = [jnp.asarray(block) for block in _split(workload, arrays["v"])]
        gradient = jax.grad(loss)

        def forward_over_reverse(p: Parameters, v: Parameters, x: Any, y: Any) -> Any:
            return jax.jvp(lambda q: gradient(q, x, y), (p,), (v,))[1]

        def reverse_over_reverse(p: Parameters, v: Parameters, x: Any, y: Any) -> Any:
            return jax.vjp(lambda q: gradient(q, x, y), p)[1](v)[0]

        hvp = jax.jit(forward_over_reverse if variant.startswith("forward") else reverse_over_reverse)
        first = jax.jit(gradient)
        return {
            "hvp": lambda: jax.block_until_ready(hvp(p, v, data["x"], data["y"])),
            "gradient": lambda: jax.block_until_ready(first(p, data["x"], data["y"])),
        }
    meta_gradient = jax.jit(_over_tasks(_task_loss(workload, loss), variant))
    batch = tuple(data[name] for name in ("x_support", "y_support", "x_query", "y_query"))
    return {"meta_gradient": lambda: jax.block_until_ready(meta_gradient(p, batch))}


def vector(workload: Workload, result: Any) -> NDArray[Any]:
    """(P,): the layouts are fastmeta's."""
    return np.concatenate([np.asarray(block).ravel() for block in result])


def _over_tasks(task_loss: Callable[..., Any], variant: str) -> Callable[..., Any]:
    if variant == "vmap-of-gradients":
        each = jax.vmap(jax.grad(task_loss), (None, 0, 0, 0, 0))
        return lambda p, batch: [g.mean(0) for g in each(p, *batch)]
    if variant.startswith("vmap"):
        losses = jax.vmap(task_loss, (None, 0, 0, 0, 0))

        def mean(p: Parameters, batch: tuple[Any, ...]) -> Any:
            return losses(p, *batch).mean()

        gradient: Callable[..., Any] = jax.grad(mean)
        return gradient

    def scan(p: Parameters, batch: tuple[Any, ...]) -> Any:
        def add(total: Parameters, task: tuple[Any, ...]) -> tuple[Parameters, None]:
            return jax.tree.map(jnp.add, total, jax.grad(task_loss)(p, *task)), None

        total, _ = lax.scan(add, jax.tree.map(jnp.zeros_like, p), batch)
        return jax.tree.map(lambda g: g / len(batch[0]), total)

    return scan


def _task_loss(workload: Workload, loss: Callable[..., Any]) -> Callable[..., Any]:
    def task_loss(p: Parameters, x_support: Any, y_support: Any, x_query: Any, y_query: Any) -> Any:
        for _ in range(workload.steps):
            gradient = jax.grad(loss)(p, x_support, y_support)
            if workload.order == 1:
                gradient = lax.stop_gradient(gradient)
            p = jax.tree.map(lambda a, g: a - workload.inner_lr * g, p, gradient)
        return loss(p, x_query, y_query)

    return task_loss


def _loss(workload: Workload, patches: bool) -> Callable[..., Any]:
    def loss(p: Parameters, x: Any, y: Any) -> Any:
        network = workload.network
        outputs = _mlp(p, x) if isinstance(network, MLP) else _conv4(network, p, x, patches)
        if not workload.labelled:
            return ((outputs - y) ** 2).mean()
        return -jnp.take_along_axis(jax.nn.log_softmax(outputs), y[:, None], 1).mean()

    return loss


def _mlp(p: Parameters, x: Any) -> Any:
    for weight, bias in zip(p[:-2:2], p[1:-2:2], strict=True):
        x = jax.nn.relu(x @ weight + bias)
    return x @ p[-2] + p[-1]


def _conv4(network: Conv4, p: Parameters, x: Any, patches: bool) -> Any:
    convolution = _patches_convolution if patches else _convolution
    for kernel, scale, shift in zip(p[0:12:3], p[1:12:3], p[2:12:3], strict=True):
        x = convolution(x, kernel, 1 if network.pooled else 2)
        mean = x.mean((0, 1, 2))
        variance = ((x - mean) ** 2).mean((0, 1, 2))
        x = jax.nn.relu((x - mean) * (scale * lax.rsqrt(variance + 1e-5)) + shift)
        if network.pooled:
            # a reshaped max gave wrong second derivatives under jit(vmap) on the CPU with jax 0.10.2
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = x.reshape(len(x), -1) if network.pooled else x.mean((1, 2))
    return x @ p[-2] + p[-1]


def _convolution(x: Any, kernel: Any, stride: int) -> Any:
    axes = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=axes)


def _patches_convolution(x: Any, kernel: Any, stride: int) -> Any:
    n, height, width, channels = x.shape
    out_h, out_w = (height - 1) // stride + 1, (width - 1) // stride + 1
    bordered = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    last_h, last_w = stride * (out_h - 1) + 1, stride * (out_w - 1) + 1
    shifted = [bordered[:, i : i + last_h : stride, j : j + last_w : stride] for i in range(3) for j in range(3)]
    columns = jnp.concatenate(shifted, axis=-1).reshape(-1, 9 * channels)
    return (columns @ kernel.reshape(9 * channels, -1)).reshape(n, out_h, out_w, -1)


def _split(workload: Workload, theta: NDArray[Any]) -> list[NDArray[Any]]:
    shapes = workload.network.parameter_shapes
    ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
    return [block.reshape(shape) for block, shape in zip(np.split(theta, ends), shapes, strict=True)]
