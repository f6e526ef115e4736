"""The meta-gradient where the query set meets batch norms that keep the support set's statistics, exact through these.

Letters as in `fastmeta.networks.frozen_norms`: a = scale r, b = shift - a m, r = (v + eps)^(-1/2), m and v are the mean
and variance of the K values z that the support set gives a channel at phi_S.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastmeta import checks, inputs
from fastmeta import device as devices
from fastmeta.floating import quiet
from fastmeta.gradients import functions as gradients
from fastmeta.gradients.steps import descend, rates_by_parameter
from fastmeta.gradients.task_sets import batch_sets
from fastmeta.networks.frozen_norms import FrozenNorm, freeze
from fastmeta.networks.layers import Affine, Flatten
from fastmeta.networks.losses import Loss
from fastmeta.networks.network import Network
from fastmeta.tasks.episode import Batch
from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.contract import Array, TaskSet


@quiet
def frozen_meta_gradient(
    net: Network,
    theta: Array,
    batch: Batch,
    inner_lr: Any = 0.01,
    inner_steps: int = 1,
    order: int = 2,
    adapt: str = "all",
    device: str = "cpu",
    *,
    loss: Loss | None = None,
) -> gradients.MetaGradient:
    """`meta_gradient`, but that each query loss is of the network frozen at its support set and phi_S.

    v_S = d Q / d phi_S, through the statistics too; v_k = v_{k+1} - H_k[m alpha_k v_{k+1}], and the slope of alpha_k is
    -m grad L(phi_k) . v_{k+1}. Arguments and errors as in `meta_gradient`; the inner steps are the same.
    """
    theta = inputs.parameters(net, theta)
    support, query = batch_sets(net, batch, theta.dtype, loss=loss)
    rates = rates_by_parameter(net, inner_lr, inner_steps, adapt, theta.dtype)
    data: tuple[Any, ...] = support[:3]
    steps = descend(net, theta, [data] * len(rates), rates, len(batch), device, loss)
    losses, v = query_gradient(net, steps.phis[-1], support.x, query, device)
    rate_slopes = np.empty_like(rates)
    for k in reversed(range(len(rates))):
        rate_slopes[k] = -(steps.slopes[k] * v).mean(axis=0)
        if order == 2:
            v = v - gradients.hvp(net, steps.phis[k], rates[k] * v, *data, loss=loss, device=device)
    return gradients.MetaGradient(
        float(losses.mean(dtype=np.float64)),
        v.mean(axis=0),
        _as_given(net, rate_slopes, inner_lr, adapt),
        losses,
        steps.losses.T,
        {},
    )


def query_gradient(net: Network, phi: Array, x_support: Array, query: TaskSet, device: str) -> tuple[Array, Array]:
    """Losses (T,) of query sets by `net` frozen at x_support (T, N, ...) and phi (T, P), and their slopes (T, P)."""
    kept = freeze(net, phi, x_support, device)
    losses, slopes = devices.backend(device).gradient(kept.net.table, kept.theta, query)
    if not (checks.all_finite(losses) and checks.all_finite(slopes)):
        raise checks.DivergenceError(
            "the query loss with frozen batch norm, or its gradient, is not finite. Halve inner_lr, or scale the data."
        )
    found = slopes.copy()
    for norm in kept.norms:
        _through_norm(net, phi, x_support, norm, slopes, found, device)
    return losses, found


def _through_norm(
    net: Network, phi: Array, x: Array, norm: FrozenNorm, slopes: Array, found: Array, device: str
) -> None:
    """Turn the slopes of a and b into those of scale and shift, and of all that the statistics come from."""
    channels = norm.z.shape[-1]
    scale_place = slice(norm.begin, norm.begin + channels)
    shift_place = slice(norm.begin + channels, norm.begin + 2 * channels)
    scale, d_a, d_b = phi[:, scale_place], slopes[:, scale_place], slopes[:, shift_place]
    r = 1.0 / np.sqrt(norm.variance + lt.BATCH_NORM_EPSILON)
    d_product = d_a - norm.mean * d_b  # of scale r
    found[:, scale_place] = r * d_product
    count = int(net.table[norm.layer, lt.WEIGHT])
    if count == 0:
        return  # the data alone make the statistics
    d_mean = -scale * r * d_b
    d_variance = -0.5 * r**3 * scale * d_product
    rows = norm.z.reshape(len(x), -1, channels)
    dz = (d_mean[:, None] + 2.0 * d_variance[:, None] * (rows - norm.mean[:, None])) / rows.shape[1]
    before = Network([*net.layers[: norm.layer], Affine(), Flatten()], net.input_shape)
    ones = np.ones_like(phi, shape=(len(x), channels))
    parameters = np.concatenate([phi[:, :count], ones, np.zeros_like(ones)], axis=1)
    d_outputs = dz.astype(phi.dtype).reshape(len(x), x.shape[1], -1)
    pulled = devices.backend(device).pullback(before.table, parameters, x, d_outputs)
    found[:, :count] += pulled[:, :count]


def _as_given(net: Network, slopes: Array, inner_lr: Any, adapt: str) -> Any:
    """Slopes (S, P) of every step's rates, summed into inner_lr's shape."""
    shape = np.shape(inner_lr)
    moved = np.zeros_like(slopes)
    place = slice(*inputs.adapted_range(net, adapt))
    moved[:, place] = slopes[:, place]
    rates = np.atleast_2d(inner_lr)
    if rates.shape[-1] == net.parameter_count:
        summed = moved
    elif rates.shape[-1] == len(net.parameter_shapes):
        summed = np.add.reduceat(moved, lt.blocks(net.table)[:-1], axis=1)
    else:
        summed = moved.sum(axis=1, keepdims=True)
    if len(rates) == 1:
        summed = summed.sum(axis=0)
    return summed.reshape(shape) if math.prod(shape) != 1 or shape else float(summed.reshape(()))
