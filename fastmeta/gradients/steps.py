"""The inner loop a step at a time, all its parameters kept: where instruments look and other query losses begin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastmeta import inputs
from fastmeta.gradients import functions as gradients
from fastmeta.networks.losses import Loss
from fastmeta.networks.network import Network
from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.contract import Array


class Descent(NamedTuple):
    """An inner loop of S steps, T tasks, P parameters."""

    phis: list[Array]  # S + 1 of (T, P): before each inner step, and after the last
    slopes: list[Array]  # S of (T, P): the gradients of the support losses
    losses: Array  # (S, T) of the support sets before each inner step


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
    net: Network,
    theta: Array,
    sets: Sequence[tuple[Array, ...]],
    rates: Array,
    tasks: int,
    device: str,
    loss: Loss | None = None,
) -> Descent:
    """phi_{k+1} = phi_k - rates_k grad L_k(phi_k) from theta, (P,) or (T, P); sets[k] is x (T, N, ...), y, weights."""
    phi = np.array(np.broadcast_to(theta, (tasks, net.parameter_count)))
    done = Descent([phi], [], np.empty((len(rates), tasks), theta.dtype))
    for k, (data, rate) in enumerate(zip(sets, rates, strict=True)):
        done.losses[k], slope = gradients.gradient(net, phi, *data, loss=loss, device=device)
        phi = phi - rate * slope
        done.slopes.append(slope)
        done.phis.append(phi)
    return done
