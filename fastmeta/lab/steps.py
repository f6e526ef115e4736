"""The inner loop a step at a time, with all its parameters kept: where every instrument looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta import inputs
from fastmeta.gradients import functions as gradients
from fastmeta.networks.network import Network
from fastmeta_kernels import layer_table as lt

Array = NDArray[Any]


def rates_by_parameter(net: Network, inner_lr: Any, inner_steps: int, adapt: str, dtype: Any) -> Array:
    """(S, P): the rate m alpha_k of every parameter at every inner step; 0 where none moves it."""
    inner = inputs.inner_loop(net, inner_lr, inner_steps, adapt, dtype)
    rates = inner.rates[np.arange(inner.steps) % len(inner.rates)]
    if rates.shape[1] == len(net.parameter_shapes):
        rates = np.repeat(rates, np.diff(lt.blocks(net.table)), axis=1)
    moved = np.zeros((inner.steps, net.parameter_count), dtype)
    moved[:, slice(*inner.adapted)] = np.broadcast_to(rates, moved.shape)[:, slice(*inner.adapted)]
    return moved


def descend(
    net: Network, theta: Array, sets: Sequence[tuple[Array, ...]], rates: Array, tasks: int, device: str
) -> tuple[list[Array], Array]:
    """phi_0 .. phi_S, each (T, P), and the support losses (S, T) before each inner step."""
    phi = np.array(np.broadcast_to(theta, (tasks, net.parameter_count)))
    phis, losses = [phi], np.empty((len(rates), tasks), theta.dtype)
    for k, (data, rate) in enumerate(zip(sets, rates, strict=True)):
        losses[k], slope = gradients.gradient(net, phi, *data, device=device)
        phi = phi - rate * slope
        phis.append(phi)
    return phis, losses
