"""Policies: networks whose outputs are a distribution over actions, and what is asked of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fastmeta import checks
from fastmeta.networks.architectures import ACTIVATIONS
from fastmeta.networks.layers import Append, BatchNorm, Layer, Linear
from fastmeta.networks.network import Network
from fastmeta.rl.worlds.world import Noise
from fastmeta_kernels.contract import Array

LEAST, MOST = math.log(1e-6), 10.0  # log standard deviations of a policy that can be sampled
_LOG_2_PI = math.log(2 * math.pi)


def gaussian_policy(
    observations: int,
    actions: int,
    hidden: Sequence[int] = (100, 100),
    activation: str = "relu",
    log_std: float = 0.0,
) -> Network:
    """Means (A,) by an MLP of the observation, then one learned log standard deviation an action.

    `log_std` is what the latter begin with: outputs are (mean, log std), 2 A in all. This is the policy of the MAML and
    TRPO papers.
    """
    layers = [*_mlp(hidden, checks.integer("actions", actions, 1), activation), Append(actions, start=log_std)]
    return Network(layers, (checks.integer("observations", observations, 1),), f"gaussian policy {tuple(hidden)}")


def categorical_policy(
    observations: int, actions: int, hidden: Sequence[int] = (100, 100), activation: str = "relu"
) -> Network:
    """Logits (A,) of `actions` actions by an MLP of the observation."""
    layers = _mlp(hidden, checks.integer("actions", actions, 2), activation)
    return Network(layers, (checks.integer("observations", observations, 1),), f"categorical policy {tuple(hidden)}")


def kind(net: Network) -> str:
    """The word "gaussian" where the last layer appends log standard deviations, else "categorical".

    Raises ValueError where the network has batch norm, or appends other than one value an action.
    """
    if any(isinstance(layer, BatchNorm) for layer in net.layers):
        raise ValueError(
            f"net={net} must not have batch norm: its statistics would be those of a rollout batch. Use LayerNorm."
        )
    last = net.layers[-1]
    if not isinstance(last, Append):
        return "categorical"
    if 2 * last.values != net.outputs:
        raise ValueError(
            f"net={net} must append one log standard deviation an action; it has {net.outputs - last.values} means "
            f"and {last.values} of these. Use Append({net.outputs - last.values})."
        )
    return "gaussian"


def width(net: Network) -> int:
    """How many actions there are, or how wide one is."""
    return net.outputs // 2 if kind(net) == "gaussian" else net.outputs


def drawn(policy: str, outputs: Array, rng: Noise | np.random.Generator) -> Array:
    """Actions drawn by outputs (T, R, O): floats (T, R, A), or whole numbers (T, R)."""
    if policy == "gaussian":
        means, log_std = _halves(outputs)
        return np.asarray(means + np.exp(log_std) * rng.standard_normal(means.shape))
    edges = np.exp(_log_softmax(outputs)).cumsum(axis=-1)
    draws = rng.random((*outputs.shape[:-1], 1)) * edges[..., -1:]
    return np.asarray(np.minimum((draws >= edges).sum(axis=-1), outputs.shape[-1] - 1))


def likeliest(policy: str, outputs: Array) -> Array:
    """The mean action, or the most probable one."""
    best: Array = _halves(outputs)[0] if policy == "gaussian" else outputs.argmax(axis=-1)
    return best


def log_probs(policy: str, outputs: Array, actions: Array) -> Array:
    """Log densities (...,) of actions, a sum over an action's dimensions, or log probabilities; float64."""
    z = outputs.astype(np.float64)
    if policy == "gaussian":
        means, log_std = _halves(z)
        errors = (actions - means) * np.exp(-log_std)
        density: Array = (-log_std - errors**2 / 2 - _LOG_2_PI / 2).sum(axis=-1)
        return density
    return np.take_along_axis(_log_softmax(z), actions[..., None], axis=-1)[..., 0]


def entropy(policy: str, outputs: Array) -> Array:
    """Nats (...,) of the distribution of each row of outputs."""
    z = outputs.astype(np.float64)
    if policy == "gaussian":
        spread: Array = (_halves(z)[1] + (1 + _LOG_2_PI) / 2).sum(axis=-1)
        return spread
    logs = _log_softmax(z)
    nats: Array = -(np.exp(logs) * logs).sum(axis=-1)
    return nats


def divergence(policy: str, old: Array, new: Array) -> Array:
    """KL(old || new) in nats (...,) of rows of outputs."""
    a, b = old.astype(np.float64), new.astype(np.float64)
    if policy == "gaussian":
        (m0, s0), (m, s) = _halves(a), _halves(b)
        apart: Array = (s - s0 + (np.exp(2 * s0 - 2 * s) + (m - m0) ** 2 * np.exp(-2 * s)) / 2 - 0.5).sum(axis=-1)
        return apart
    logs0, logs = _log_softmax(a), _log_softmax(b)
    away: Array = (np.exp(logs0) * (logs0 - logs)).sum(axis=-1)
    return away


def check_spread(policy: str, outputs: Array) -> None:
    """Raise where a log standard deviation is so small or large that its policy cannot be sampled."""
    if policy == "gaussian":
        _, log_std = _halves(outputs)
        if log_std.min() < LEAST or log_std.max() > MOST:
            wrong = log_std.min() if log_std.min() < LEAST else log_std.max()
            raise checks.DivergenceError(
                f"a log standard deviation of the policy is {wrong:.3g}, outside {LEAST:.3g} .. {MOST:g}: exploration "
                "has ended, or has no bounds. Lower inner_lr, or begin with another log_std."
            )


def _halves(outputs: Array) -> tuple[Array, Array]:
    """Means and log standard deviations."""
    half = outputs.shape[-1] // 2
    return outputs[..., :half], outputs[..., half:]


def _mlp(hidden: Sequence[int], outputs: int, activation: str) -> list[Layer]:
    between = ACTIVATIONS[checks.choice("activation", activation, ACTIVATIONS)]
    layers: list[Layer] = []
    for size in hidden:
        layers += [Linear(checks.integer("hidden", size, 1)), between()]
    return [*layers, Linear(outputs)]


def _log_softmax(z: Array) -> Array:
    shifted = z - z.max(axis=-1, keepdims=True)
    logs: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return logs
