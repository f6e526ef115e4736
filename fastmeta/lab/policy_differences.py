"""Policy losses and Fisher products against central differences: meta-gradients whose every loss is a policy's."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmeta import device as devices
from fastmeta import inputs
from fastmeta.floating import quiet
from fastmeta.lab.central_differences import GradientReport, check_arrays, check_sets
from fastmeta.networks.losses import PolicyLoss
from fastmeta.networks.network import Network
from fastmeta_kernels import reference
from fastmeta_kernels.contract import Array, TaskSet

TASKS, SAMPLES = 3, 7


@quiet
def check_policy_loss(
    net: Network, theta: Array, loss: PolicyLoss, inner_lr: Any, inner_steps: int, device: str, seed: int
) -> GradientReport:
    """The exact meta-gradient at theta (P,), float64, where support and query sets have the policy loss."""
    support, query = (policy_set(net, theta, loss, 2 * seed + part) for part in (0, 1))
    inner = inputs.inner_loop(net, inner_lr, inner_steps, "all", np.float64)
    return check_sets(net, theta, support, query, inner, 2, devices.backend(device), np.inf, seed)


@quiet
def check_fisher(net: Network, theta: Array, policy: str, device: str, seed: int) -> GradientReport:
    """F v at theta (P,), the mean over tasks, against differences of the slope of the KL along v."""
    data, backend = policy_set(net, theta, PolicyLoss(policy, "kl"), seed), devices.backend(device)
    own = data._replace(y=reference.predict(net.table, theta, data.x))
    rng = np.random.default_rng(seed)
    v = rng.standard_normal(theta.size)

    def slope(at: Array) -> tuple[float, int]:
        return float(backend.gradient(net.table, at, own)[1].mean(axis=0) @ v), 0

    product = backend.fisher(net.table, theta, v, own).mean(axis=0)
    scale = 1e-3 * float(np.linalg.norm(product)) / np.sqrt(theta.size)
    return GradientReport(tuple(check_arrays(net, theta, slope, product, scale, rng)), np.inf)


def policy_set(net: Network, theta: Array, loss: PolicyLoss, seed: int) -> TaskSet:
    """Random observations, actions, advantages and old log-probabilities, of ratios near 1 at theta (P,)."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((TASKS, SAMPLES, *net.input_shape))
    outputs = reference.predict(net.table, theta, x)
    if loss.surrogate == "kl":
        old = outputs + 0.3 * rng.standard_normal(outputs.shape)
        return TaskSet(x, old, rng.standard_normal((TASKS, SAMPLES)), loss.kernel)
    y: Array = rng.integers(0, net.outputs, (TASKS, SAMPLES))
    if loss.policy == "gaussian":
        mean, log_std = np.split(outputs, 2, axis=2)
        y = mean + np.exp(log_std) * rng.standard_normal(mean.shape)
    data = TaskSet(x, y, rng.standard_normal((TASKS, SAMPLES)), loss.kernel)
    if not loss.has_ratio:
        return data
    alone = PolicyLoss(loss.policy, "log").kernel
    each = TaskSet(x.reshape(-1, 1, *net.input_shape), y.reshape(-1, 1, *y.shape[2:]), None, alone)
    logs = -reference.loss(net.table, theta, each).reshape(TASKS, SAMPLES)
    return data._replace(log_probs=logs + 0.2 * rng.standard_normal(logs.shape))
