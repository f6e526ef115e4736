"""JAX: everything under one `jit`.

Variants: `vmap` is the gradient of the mean over a vmap of tasks, `vmap-of-gradients` the mean over a vmap of
gradients, `map` a scan over tasks that adds up their gradients. `convolution` is XLA's own, `patches` nine shifted
slices and one matrix product. `scan` runs the inner steps in a scan instead of unrolling them (for curves); of
whole updates it is one scan over draws, gradients of the mean over a vmap, and Adam.
Hessian-vector products forward over reverse, or reverse over reverse.
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

from benchmarks.networks import MLP, Conv4
from benchmarks.workloads import DRAWING, Workload

Parameters = list[Any]
Function = Callable[..., Any]


def versions() -> dict[str, str]:
    """Of the packages that compute."""
    return {"jax": jax.__version__, "jaxlib": jaxlib.__version__}


def build(
    workload: Workload, arrays: dict[str, NDArray[Any]], dtype: str, variant: str, device: str
) -> dict[str, Callable[[], Any]]:
    """The calls of a workload; data are on the device (JAX_PLATFORMS) before."""
    jax.config.update("jax_enable_x64", dtype == "float64")
    jax.config.update("jax_default_matmul_precision", "highest")  # no TF32 on a GPU; nothing else on a CPU
    return {part: _compiled(*call) for part, call in _calls(workload, arrays, variant).items()}


def _compiled(function: Function, arguments: tuple[Any, ...]) -> Callable[[], Any]:
    jitted = jax.jit(function)
    return lambda: jax.block_until_ready(jitted(*arguments))


def vector(workload: Workload, result: Any) -> NDArray[Any]:
    """The flat result: the layouts are fastmeta's."""
    return np.concatenate([np.asarray(block).ravel() for block in result])


def device_mb() -> float:
    """Highest use of GPU memory."""
    return float((jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)) / 2**20


def _calls(
    workload: Workload, arrays: dict[str, NDArray[Any]], variant: str
) -> dict[str, tuple[Function, tuple[Any, ...]]]:
    """Part -> function and its arguments."""
    p = [jnp.asarray(block) for block in _split(workload, arrays["theta"])]
    data = {name: jnp.asarray(a) for name, a in arrays.items() if name not in ("theta", "v")}
    loss = _loss(workload, "patches" in variant)
    if workload.parts[0] == "hvp":
        v = [jnp.asarray(block) for block in _split(workload, arrays["v"])]
        hvp = (_forward_over_reverse if variant.startswith("forward") else _reverse_over_reverse)(jax.grad(loss))
        return {"hvp": (hvp, (p, v, data["x"], data["y"])), "gradient": (jax.grad(loss), (p, data["x"], data["y"]))}
    batch = tuple(data[name] for name in ("x_support", "y_support", "x_query", "y_query"))
    if workload.kind == "head":

        def total_loss(embeddings: tuple[Any, Any], labels: Any) -> Any:
            return jax.vmap(lambda s, q, y: _prototype_loss(workload, s, q, y))(*embeddings, labels).sum()

        return {"gradient": (jax.grad(total_loss), ((batch[0], batch[2]), batch[3]))}
    if workload.kind == "protonet":
        gradient = jax.grad(_episode_loss(workload, "patches" in variant))
        return {"gradient": (gradient, (p, batch[0][0], batch[2][0], batch[3][0]))}
    if workload.kind == "updates":
        return {
            part: (_updates(workload, part, _task_loss(workload, loss, "vmap")), (p, batch)) for part in workload.parts
        }
    return {"meta_gradient": (_over_tasks(_task_loss(workload, loss, variant), variant), (p, batch))}


def _forward_over_reverse(gradient: Function) -> Function:
    return lambda p, v, x, y: jax.jvp(lambda q: gradient(q, x, y), (p,), (v,))[1]


def _reverse_over_reverse(gradient: Function) -> Function:
    return lambda p, v, x, y: jax.vjp(lambda q: gradient(q, x, y), p)[1](v)[0]


def _over_tasks(task_loss: Function, variant: str) -> Function:
    if variant.startswith("vmap-of-gradients"):
        each = jax.vmap(jax.grad(task_loss), (None, 0, 0, 0, 0))
        return lambda p, batch: [g.mean(0) for g in each(p, *batch)]
    if variant.startswith("vmap"):
        losses = jax.vmap(task_loss, (None, 0, 0, 0, 0))

        def mean(p: Parameters, batch: tuple[Any, ...]) -> Any:
            return losses(p, *batch).mean()

        gradient: Function = jax.grad(mean)
        return gradient

    def scan(p: Parameters, batch: tuple[Any, ...]) -> Any:
        def add(total: Parameters, task: tuple[Any, ...]) -> tuple[Parameters, None]:
            return jax.tree.map(jnp.add, total, jax.grad(task_loss)(p, *task)), None

        total, _ = lax.scan(add, jax.tree.map(jnp.zeros_like, p), batch)
        return jax.tree.map(lambda g: g / len(batch[0]), total)

    return scan


def _updates(workload: Workload, part: str, task_loss: Function) -> Function:
    """Updates by Adam, of sinusoids that are drawn or of the given tasks; the parameters behind them."""
    gradient = _over_tasks(task_loss, "vmap")

    def update(state: tuple[Any, ...], tasks: tuple[Any, ...]) -> tuple[Any, ...]:
        p, m, v, step = state
        step, g = step + 1, gradient(p, tasks)
        m = [0.9 * a + 0.1 * b for a, b in zip(m, g, strict=True)]
        v = [0.999 * a + 0.001 * b**2 for a, b in zip(v, g, strict=True)]
        to_m, to_v = 1 - 0.9**step, 1 - 0.999**step
        p = [a - 1e-3 * (b / to_m) / (jnp.sqrt(c / to_v) + 1e-8) for a, b, c in zip(p, m, v, strict=True)]
        return p, m, v, step

    def run(p: Parameters, batch: tuple[Any, ...]) -> Parameters:
        def one(state: tuple[Any, ...], key: Any) -> tuple[Any, None]:
            return update(state, _sinusoids(workload, key, p[0].dtype) if part == DRAWING else batch), None

        zeros = [jnp.zeros_like(block) for block in p]
        keys = jax.random.split(jax.random.key(0), workload.updates_of(part))
        last: Parameters = lax.scan(one, (p, zeros, zeros, jnp.zeros((), p[0].dtype)), keys)[0][0]
        return last

    return run


def _sinusoids(workload: Workload, key: Any, dtype: Any) -> tuple[Any, ...]:
    """Tasks as `benchmarks.inputs` draws them."""
    keys, one = jax.random.split(key, 3), (workload.tasks, 1, 1)
    amplitude = jax.random.uniform(keys[0], one, dtype, 0.1, 5)
    phase = jax.random.uniform(keys[1], one, dtype, 0, math.pi)
    n = workload.support
    x = jax.random.uniform(keys[2], (workload.tasks, n + workload.query, 1), dtype, -5, 5)
    y = amplitude * jnp.sin(x - phase)
    return x[:, :n], y[:, :n], x[:, n:], y[:, n:]


def _task_loss(workload: Workload, loss: Function, variant: str) -> Function:
    """The query loss of one task after its inner steps, of the whole network or of its head."""

    def step(p: Parameters, inner_loss: Function, x: Any, y: Any) -> Parameters:
        gradient = jax.grad(inner_loss)(p, x, y)
        if workload.order == 1:
            gradient = lax.stop_gradient(gradient)
        stepped: Parameters = jax.tree.map(lambda a, g: a - workload.inner_lr * g, p, gradient)
        return stepped

    def steps(p: Parameters, inner_loss: Function, x: Any, y: Any) -> Parameters:
        if "scan" in variant:
            return lax.scan(lambda q, _: (step(q, inner_loss, x, y), None), p, None, workload.steps)[0]
        for _ in range(workload.steps):
            p = step(p, inner_loss, x, y)
        return p

    def task_loss(p: Parameters, x_support: Any, y_support: Any, x_query: Any, y_query: Any) -> Any:
        if workload.adapt == "head":
            assert isinstance(workload.network, Conv4)
            support, query = (_body(workload.network, p, x, "patches" in variant) for x in (x_support, x_query))
            return _head_loss(steps(p[-2:], _head_loss, support, y_support), query, y_query)
        return loss(steps(p, loss, x_support, y_support), x_query, y_query)

    return task_loss


def _episode_loss(workload: Workload, patches: bool) -> Function:
    def loss(p: Parameters, x_support: Any, x_query: Any, labels: Any) -> Any:
        assert isinstance(workload.network, Conv4)
        z = _body(workload.network, p, jnp.concatenate((x_support, x_query)), patches)
        return _prototype_loss(workload, z[: workload.support], z[workload.support :], labels)

    return loss


def _prototype_loss(workload: Workload, support: Any, query: Any, labels: Any) -> Any:
    """Squared distances to the class means as logits; support labels are 0, 1, ... in turn."""
    prototypes = support.reshape(-1, workload.ways, support.shape[-1]).mean(0)
    distances = (query**2).sum(1)[:, None] - 2 * query @ prototypes.T + (prototypes**2).sum(1)
    return _cross_entropy(-distances, labels)


def _loss(workload: Workload, patches: bool) -> Function:
    def loss(p: Parameters, x: Any, y: Any) -> Any:
        network = workload.network
        if isinstance(network, MLP):
            outputs = _mlp(p, x)
            return _cross_entropy(outputs, y) if workload.labelled else ((outputs - y) ** 2).mean()
        assert isinstance(network, Conv4)
        return _head_loss(p[-2:], _body(network, p, x, patches), y)

    return loss


def _head_loss(p: Parameters, features: Any, y: Any) -> Any:
    return _cross_entropy(features @ p[0] + p[1], y)


def _cross_entropy(outputs: Any, y: Any) -> Any:
    return -jnp.take_along_axis(jax.nn.log_softmax(outputs), y[:, None], 1).mean()


def _mlp(p: Parameters, x: Any) -> Any:
    for weight, bias in zip(p[:-2:2], p[1:-2:2], strict=True):
        x = jax.nn.relu(x @ weight + bias)
    return x @ p[-2] + p[-1]


def _body(network: Conv4, p: Parameters, x: Any, patches: bool) -> Any:
    """Features (N, F) of images."""
    convolution = _patches_convolution if patches else _convolution
    for kernel, scale, shift in zip(p[0:12:3], p[1:12:3], p[2:12:3], strict=True):
        x = convolution(x, kernel, 1 if network.pooled else 2)
        mean = x.mean((0, 1, 2))
        variance = ((x - mean) ** 2).mean((0, 1, 2))
        x = jax.nn.relu((x - mean) * (scale * lax.rsqrt(variance + 1e-5)) + shift)
        if network.pooled:
            # a reshaped max gave wrong second derivatives under jit(vmap) on the CPU with jax 0.10.2
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return x.reshape(len(x), -1) if network.pooled else x.mean((1, 2))


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
    ends = np.cumsum([math.prod(shape) for shape in shapes], dtype=int)
    return [block.reshape(shape) for block, shape in zip(np.split(theta, ends)[:-1], shapes, strict=True)]
