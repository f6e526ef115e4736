"""The functional layer: theta is one flat vector in, values and gradients out.

One task's data (N, ...) give one result; (T, N, ...) data give one per task, for theta (P,) or (T, P). x of uint8
are pixels, which are divided by 255 as in training. For
device="cuda" theta and x may be arrays on the GPU, CuPy's or any that DLPack brings; gradients, products and adapted
parameters lie where theta lies.

One file of more than 200 lines, because its functions share their arguments and what these may be.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmeta import checks, inputs, memory
from fastmeta import device as devices
from fastmeta.floating import quiet
from fastmeta.gradients.task_sets import batch_sets, task_set
from fastmeta.networks.losses import Loss
from fastmeta.networks.network import Network
from fastmeta.record import Record
from fastmeta_kernels.contract import Array, MetaGradientArrays, StepParameters, TaskSet

if TYPE_CHECKING:
    from fastmeta.tasks.episode import Batch


class MetaGradient(Record):
    """The gradient of the mean query loss after the inner loop, and the losses on the way."""

    loss: float  # mean query loss
    gradient: Array  # (P,)
    inner_lr_gradient: Any  # inner_lr's shape; a float where that is a number
    query_losses: Array  # (T,), weighted sums over the steps where there are loss_weights
    support_losses: Array  # (T, S) before each inner step
    step_gradients: dict[str, Array]  # of step_parameters, in their shapes
    task_gradients: Array | None = None  # (T, P) of which `gradient` is the mean, with each_task=True
    weights_gradient: Array | None = None  # (T, N) of the loss by the support weights, with each_weight=True
    weight_decay_gradient: float | None = None  # where it or proximal is given, 0 too
    proximal_gradient: float | None = None


@quiet
def loss(
    net: Network,
    theta: Array,
    x: Array,
    y: Array,
    weights: Array | None = None,
    *,
    log_probs: Array | None = None,
    loss: Loss | None = None,
    device: str = "cpu",
) -> Any:
    """Mean over samples (and outputs) of weight * loss: a float, or (T,).

    loss: a description such as fm.SquaredError(); by default integer y (N,), which are labels, mean cross-entropy
    and float y (N, O) mean squared error, here and in all functions. log_probs (N,): of actions when they were drawn,
    for an fm.PolicyLoss that has a ratio.
    Raises DivergenceError where it is not finite.
    """
    theta, data, single = _one_set(net, theta, x, y, weights, device, loss, log_probs)
    with _counted(data):
        losses = devices.backend(device).loss(net.table, theta, data)
    _check_losses(losses)
    return float(losses[0]) if single else losses


@quiet
def gradient(
    net: Network,
    theta: Array,
    x: Array,
    y: Array,
    weights: Array | None = None,
    *,
    log_probs: Array | None = None,
    loss: Loss | None = None,
    device: str = "cpu",
) -> tuple[Any, Array]:
    """Loss (a float, or (T,)) and its gradient with respect to theta, (P,) or (T, P)."""
    theta, data, single = _one_set(net, theta, x, y, weights, device, loss, log_probs)
    with _counted(data):
        losses, gradients = devices.backend(device).gradient(net.table, theta, data)
    _check_losses(losses)
    _check_finite("gradient", gradients, "Scale the data")
    return (float(losses[0]), gradients[0]) if single else (losses, gradients)


@quiet
def hvp(
    net: Network,
    theta: Array,
    v: Array,
    x: Array,
    y: Array,
    weights: Array | None = None,
    *,
    log_probs: Array | None = None,
    loss: Loss | None = None,
    device: str = "cpu",
) -> Array:
    """Exact product of the loss's Hessian at theta with v (P,) or (T, P): (P,) or (T, P).

    Raises DivergenceError where the product is not finite.
    """
    theta, data, single = _one_set(net, theta, x, y, weights, device, loss, log_probs)
    v = inputs.direction(net, v, None if single else len(data.x), theta.dtype, device)
    with _counted(data):
        product = devices.backend(device).hvp(net.table, theta, v, data)
    if not checks.all_finite(product):
        _check_losses(devices.backend(device).loss(net.table, theta, data))
        _check_finite("Hessian-vector product", product, "Scale v or the data")
    return product[0] if single else product


@quiet
def adapt(
    net: Network,
    theta: Array,
    x: Array,
    y: Array,
    inner_lr: Any = 0.01,
    inner_steps: int = 1,
    adapt: str = "all",
    weights: Array | None = None,
    *,
    step_parameters: dict[str, Array] | None = None,
    weight_decay: float | None = None,
    proximal: float | None = None,
    loss: Loss | None = None,
    device: str = "cpu",
) -> Array:
    """phi, (P,) or (T, P), after `inner_steps` of gradient descent from theta.

    inner_lr: a number, or an array whose last axis is 1, V (one per entry of net.views) or P, with an
    optional first axis of one per step. Rates in an array may be negative or 0, as learned ones become.
    adapt="head" moves the last linear layer only (ANIL), "body" all but that (BOIL). step_parameters: parameter
    arrays (inner_steps + 1, ...), by their names in net.views, that have a value of their own before the first
    inner step and after each; no step moves them and theta's are not used. weight_decay and proximal: each step
    descends on loss + weight_decay / 2 |phi|^2 + proximal / 2 |phi - theta|^2.
    Raises DivergenceError where a loss or phi is not finite.
    """
    theta, data, single = _one_set(net, theta, x, y, weights, device, loss)
    pulls = inputs.pulls(weight_decay, proximal)
    inner = inputs.inner_loop(net, inner_lr, inner_steps, adapt, theta.dtype, step_parameters, pulls)
    with _counted(data):
        phi, losses = devices.backend(device).adapt(net.table, theta, data, inner)
    _check_inner(losses, phi, inner_lr)
    return phi[0] if single else phi


@quiet
def meta_gradient(
    net: Network,
    theta: Array,
    batch: Batch,
    inner_lr: Any = 0.01,
    inner_steps: int = 1,
    order: int = 2,
    adapt: str = "all",
    device: str = "cpu",
    memory: str = "auto",
    loss_weights: Any = None,
    step_parameters: dict[str, Array] | None = None,
    *,
    loss: Loss | None = None,
    each_task: bool = False,
    each_weight: bool = False,
    weight_decay: float | None = None,
    proximal: float | None = None,
) -> MetaGradient:
    """Gradient of the mean query loss after adaptation with respect to theta (P,), inner_lr and step_parameters.

    order=2 is exact (MAML), order=1 treats inner gradients as constants (FOMAML). inner_lr, adapt and
    step_parameters as in `adapt`. loss_weights (inner_steps + 1,): the loss is the sum of the query losses before
    the first inner step and after each, so weighted (MAML++, arXiv 1810.09502, equation 4). memory="stash" keeps
    every step's activations, "recompute" only its parameters: the same bits. each_task asks for `task_gradients`,
    each_weight, with order=2, for `weights_gradient`; weight_decay and proximal as in `adapt`.
    Raises DivergenceError, naming the inner step, where a loss is not finite.

    >>> from fastmeta import MLP, tasks
    >>> net = MLP((1, 40, 40, 1))
    >>> meta_gradient(net, net.init(seed=0), tasks.Sinusoid(shots=10).sample(4, seed=0)).gradient.shape
    (1761,)
    """
    if checks.integer("order", order, 1, "Use 2 (exact) or 1 (first order).") > 2:
        raise ValueError(f"order={order!r} must be 2 (exact) or 1 (first order).")
    checks.choice("memory", memory, ("auto", "stash", "recompute"))
    if checks.switch("each_weight", each_weight) and order == 1:
        raise ValueError("each_weight=True must come with order=2. The gradient by the weights is exact only.")
    pulls = inputs.pulls(weight_decay, proximal)
    theta = inputs.parameters(net, theta, device=device)
    support, query = batch_sets(net, batch, theta.dtype, device, loss)
    inner = inputs.inner_loop(net, inner_lr, inner_steps, adapt, theta.dtype, step_parameters, pulls)
    shares = None if loss_weights is None else inputs.loss_weights(loss_weights, inner.steps, theta.dtype)
    backend = devices.backend(device)
    with _counted(support, query):
        asked = int(order), memory, shares, checks.switch("each_task", each_task), each_weight
        result = backend.meta_gradient(net.table, theta, support, query, inner, *asked)
    check_result(result, inner_lr)
    rates = result.rates_gradient.reshape(() if type(inner_lr) is float else np.shape(inner_lr))
    mean = float(np.add.reduce(result.query_losses, dtype=np.float64)) / len(result.query_losses)
    return MetaGradient(
        mean,
        result.gradient,
        rates if rates.ndim else float(rates),
        result.query_losses,
        result.support_losses,
        by_name(net, inner.step_parameters, result.step_parameters_gradient),
        result.task_gradients if each_task else None,
        result.weights_gradient if each_weight else None,
        *(map(float, result.pulls_gradient) if pulls else (None, None)),
    )


def check_result(result: MetaGradientArrays, inner_lr: Any) -> None:
    """DivergenceError where a loss or a derivative is not finite, naming the inner step."""
    _check_inner(result.support_losses, result.query_losses, inner_lr)
    advice = "Halve inner_lr, or scale the data"
    _check_finite("meta-gradient", result.gradient, advice)
    _check_finite("gradient of inner_lr", result.rates_gradient, advice)
    _check_finite("gradient of step_parameters", result.step_parameters_gradient, advice)
    _check_finite("gradient of the support weights", result.weights_gradient, advice)


def by_name(net: Network, given: StepParameters | None, gradient: Array) -> dict[str, Array]:
    """Gradients (..., S + 1, B) of step parameters by the names of their arrays, in these arrays' shapes."""
    if given is None:
        return {}
    shapes = [list(net.parameter_shapes.items())[i] for i in given.blocks]
    edges = np.cumsum([math.prod(shape) for _, shape in shapes])[:-1]
    parts = np.split(gradient, edges, axis=-1)
    return {name: part.reshape(*gradient.shape[:-1], *shape) for (name, shape), part in zip(shapes, parts, strict=True)}


def _counted(*sets: TaskSet) -> AbstractContextManager[None]:
    """What runs out of memory says how many samples would not."""
    return memory.counted("samples", sum([data.x.shape[0] * data.x.shape[1] for data in sets]))


def _one_set(
    net: Network,
    theta: Any,
    x: Any,
    y: Any,
    weights: Any,
    device: str,
    loss: Loss | None,
    log_probs: Array | None = None,
) -> tuple[Array, TaskSet, bool]:
    x = np.atleast_1d(inputs.array("x", x, device))
    single = inputs.is_single(net, x)
    theta = inputs.parameters(net, theta, None if single else len(x), device=device)
    data = task_set(net, x, y, weights, theta.dtype, device=device, loss=loss, log_probs=log_probs)
    return theta, data, single


def _check_losses(losses: Array) -> None:
    if not checks.all_finite(losses):
        task = int(np.argmin(np.isfinite(losses)))
        raise checks.DivergenceError(
            f"the loss of task {task} is {losses[task]}: theta, the data or the weights are too large "
            f"for {losses.dtype}. Scale the data, or start from net.init()."
        )


def _check_inner(support_losses: Array, outcome: Array, inner_lr: Any) -> None:
    """Raise at the first inner step behind which a support loss or outcome (T,) or (T, P) is not finite."""
    if checks.all_finite(support_losses) and checks.all_finite(outcome):
        return
    steps = support_losses.shape[1]
    after = np.isfinite(outcome).reshape(len(outcome), -1).all(axis=1, keepdims=True)
    finite = np.concatenate([np.isfinite(support_losses), after], axis=1)  # (T, S + 1)
    done = int(np.argmin(finite.all(axis=0)))
    task = int(np.argmin(finite[:, done]))
    if done == 0:
        raise checks.DivergenceError(
            f"the loss of task {task} is not finite before any inner step: theta or the data are too large. "
            "Scale the data, or start from net.init()."
        )
    shown = f"inner_lr={inner_lr}" if np.ndim(inner_lr) == 0 else "inner_lr"
    raise checks.DivergenceError(
        f"task {task} diverged at inner step {done} of {steps}: its loss is not finite after it. Likely "
        f"causes: (a) {shown} is too large: halve it; (b) the data or targets are not scaled to about 1; "
        "(c) theta has grown during training: lower the optimizer's rate."
    )


def _check_finite(what: str, values: Array, advice: str) -> None:
    """Raise where a derivative is not finite; every loss has been found to be."""
    if values.size and not checks.all_finite(values):
        cure = checks.scaling(advice, values)
        raise checks.DivergenceError(
            f"the {what} is not finite although every loss is: it overflows {values.dtype}. {cure}"
        )
