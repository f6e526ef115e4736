"""CUDA kernels through CuPy: the same results as `reference`, on an NVIDIA GPU; see kernels/README.md.

Arrays may be NumPy's or, already on the device, CuPy's. Results are NumPy's, but that gradients, products and adapted
parameters lie where theta lies.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmeta_kernels.contract import Array, InnerLoop, MetaGradient, PrototypeHead, PrototypeLoss, TaskSet, loss_of
from fastmeta_kernels.cuda.execution import call as execution
from fastmeta_kernels.cuda.layout.network import layout
from fastmeta_kernels.cuda.machine import machine
from fastmeta_kernels.cuda.machine.machine import free_bytes, is_own, on_device
from fastmeta_kernels.cuda.program.program import stashes
from fastmeta_kernels.cuda.request import Request, SetShape
from fastmeta_kernels.host import on_host
from fastmeta_kernels.layer_table import Table

__all__ = [
    "adapt",
    "free_bytes",
    "gradient",
    "hvp",
    "is_own",
    "loss",
    "meta_gradient",
    "on_device",
    "on_host",
    "predict",
    "prototype_gradient",
    "prototype_loss",
    "pullback",
    "ready",
]

MOST_STEPS = 200  # of one program: `adapt` runs it again for more


def ready() -> None:
    """Raise ModuleNotFoundError without CuPy, DeviceError without a driver or a device that can run the kernels."""
    machine.cupy()


def predict(table: Table, theta: Array, x: Array) -> Array:
    """Outputs (T, N, O); see the contract."""
    request = Request("predict", table.tobytes(), theta.dtype, len(x), SetShape(x.shape[1]))
    request = request._replace(thetas=_count(theta))
    outputs = execution.run(request, {"theta": theta, "query.x": x}, ("outputs",))[0]
    return outputs.reshape(*x.shape[:2], -1)


def loss(table: Table, theta: Array, data: TaskSet) -> Array:
    """Losses (T,); see the contract."""
    return execution.run(*_one_set("loss", table, theta, data), ("losses",))[0].reshape(-1)


def gradient(table: Table, theta: Array, data: TaskSet) -> tuple[Array, Array]:
    """Losses (T,) and gradients (T, P); see the contract."""
    losses, gradients = execution.run(*_one_set("gradient", table, theta, data), ("losses", "gradients"))
    return losses.reshape(-1), gradients


def hvp(table: Table, theta: Array, v: Array, data: TaskSet) -> Array:
    """Hessian-vector products (T, P); see the contract."""
    request, inputs = _one_set("hvp", table, theta, data)
    request = request._replace(directions=_count(v))
    return execution.run(request, inputs | {"v": v}, ("products",))[0]


def adapt(table: Table, theta: Array, support: TaskSet, inner: InnerLoop) -> tuple[Array, Array]:
    """phi_S (T, P) and support losses (T, S); see the contract."""
    phi, losses = theta, []
    for first in range(0, max(inner.steps, 1), MOST_STEPS):
        steps = min(inner.steps - first, MOST_STEPS)
        rates = inner.rates[first : first + steps] if len(inner.rates) > 1 else inner.rates
        own = inner.stepwise and inner.stepwise._replace(values=inner.stepwise.values[first : first + steps + 1])
        part = InnerLoop(steps, rates, inner.adapted, own)
        request, inputs = _with_inner_loop(*_one_set("adapt", table, phi, support), part)
        phi, found = execution.run(request, inputs, ("phi", "losses"))
        losses.append(found)
    return phi, np.concatenate(losses, axis=1)


def meta_gradient(
    table: Table,
    theta: Array,
    support: TaskSet,
    query: TaskSet,
    inner: InnerLoop,
    order: int = 2,
    memory: str = "auto",
    loss_weights: Array | None = None,
) -> MetaGradient:
    """Gradient of the mean query loss after the inner loop; see the contract."""
    request, inputs = _one_set("meta_gradient", table, theta, query)
    request, inputs = _with_inner_loop(request, inputs | _arrays("support", support), inner)
    request = request._replace(support=_shape(support), order=order)
    request = request._replace(stash=memory == "stash" or (memory == "auto" and stashes(request)))
    if loss_weights is not None:
        request = request._replace(losses=tuple((_host(loss_weights) != 0).tolist()))
        inputs["loss_weights"] = loss_weights
    names = ["query_losses", "support_losses", "gradient", "rates_gradient", "stepwise_gradient"]
    own = inner.stepwise is not None
    query_losses, support_losses, total, rates, *rest = execution.run(request, inputs, names if own else names[:-1])
    rates = rates.reshape(inner.rates.shape) if inner.steps else np.zeros(inner.rates.shape, theta.dtype)
    stepwise = rest[0].reshape(inner.steps + 1, -1) if own else np.zeros((0, 0), theta.dtype)
    return MetaGradient(query_losses.reshape(-1), support_losses, total.reshape(-1), rates, stepwise)


def pullback(table: Table, theta: Array, x: Array, d_outputs: Array) -> Array:
    """Vector-Jacobian products (T, P); see the contract."""
    shape = SetShape(x.shape[1])
    request = Request("pullback", table.tobytes(), theta.dtype, len(x), shape, thetas=_count(theta))
    inputs = {"theta": theta, "query.x": x, "d_outputs": d_outputs}
    return execution.run(request, inputs, ("gradients",))[0]


def prototype_loss(
    support: Array, y_support: Array, query: Array, y_query: Array, head: PrototypeHead
) -> PrototypeLoss:
    """Prototypical networks' loss of embeddings, and its gradients; see the contract."""
    tasks, samples, width = support.shape
    queries = query.shape[1]
    request = Request("prototype_loss", b"", support.dtype, tasks, SetShape(queries))
    request = request._replace(support=SetShape(samples), head=head, width=width)
    inputs = {"support": support, "y_support": y_support, "query": query, "y_query": y_query}
    names = ("losses", "logits", "d_support", "d_query")
    losses, logits, d_support, d_query = execution.run(request, inputs, names)
    logits = logits.reshape(tasks, queries, head.ways)
    return PrototypeLoss(losses.reshape(-1), logits, d_support.reshape(support.shape), d_query.reshape(query.shape))


def prototype_gradient(
    table: Table, theta: Array, data: TaskSet, support: int, head: PrototypeHead
) -> tuple[Array, Array]:
    """Losses (T,) and gradients (T, P) of a network that embeds; see the contract."""
    request, inputs = _one_set("prototype_gradient", table, theta, data)
    request = request._replace(support=SetShape(support), head=head)
    losses, gradients = execution.run(request, inputs, ("losses", "gradients"))
    return losses.reshape(-1), gradients


def _one_set(kind: str, table: Table, theta: Array, data: TaskSet) -> tuple[Request, dict[str, Any]]:
    request = Request(kind, table.tobytes(), theta.dtype, len(data.x), _shape(data), thetas=_count(theta))
    return request, {"theta": theta} | _arrays("query", data)


def _arrays(name: str, data: TaskSet) -> dict[str, Any]:
    arrays = {f"{name}.x": data.x, f"{name}.y": data.y}
    return arrays if data.weights is None else arrays | {f"{name}.weights": data.weights}


def _shape(data: TaskSet) -> SetShape:
    return SetShape(data.x.shape[1], data.weights is not None, loss_of(data))


def _with_inner_loop(request: Request, inputs: dict[str, Any], inner: InnerLoop) -> tuple[Request, dict[str, Any]]:
    edges = np.array(layout(request.table).edges, np.int64)
    rates = inner.rates if inner.steps else np.zeros((1, 1), request.dtype)
    start, stop = inner.adapted
    request = request._replace(steps=inner.steps, rates=rates.shape, adapted=(int(start), int(stop)))
    inputs = inputs | {"rates": rates, "edges": edges}
    if inner.stepwise is None:
        return request, inputs
    blocks = np.array(inner.stepwise.blocks)
    sizes, own_at = np.diff(edges)[blocks], np.full(len(edges) - 1, -1)
    own_at[blocks] = np.cumsum(sizes) - sizes
    inputs |= {"own": inner.stepwise.values, "own_at": own_at}
    return request._replace(own=tuple(map(int, blocks))), inputs


def _count(theta: Array) -> int:
    return len(theta) if theta.ndim > 1 else 1


def _host(array: Any) -> Array:
    return np.asarray(array.get()) if is_own(array) else np.asarray(array)
