"""Products with the derivative of a network's outputs: for losses of one's own, and for the curvature of policies."""

from __future__ import annotations

import numpy as np

from fastmeta import checks, inputs
from fastmeta import device as devices
from fastmeta.floating import quiet
from fastmeta.gradients.task_sets import task_set
from fastmeta.networks.losses import PolicyLoss
from fastmeta.networks.network import Network
from fastmeta_kernels.contract import Array, TaskSet


@quiet
def pullback(net: Network, theta: Array, x: Array, d_outputs: Array, *, device: str = "cpu") -> Array:
    """d sum(outputs * d_outputs) / d theta, (P,) or (T, P): the gradient of any loss whose slope by outputs is known.

    x (N, ...) and d_outputs (N, O), or (T, N, ...) and (T, N, O). Raises DivergenceError where it is not finite.

    >>> import numpy as np
    >>> from fastmeta import MLP
    >>> net, x = MLP((2, 3, 1)), np.ones((4, 2))
    >>> pullback(net, net.init(0), x, np.sign(net.predict(net.init(0), x)) / 4).shape  # of the mean of |outputs|
    (13,)
    """
    x = np.atleast_1d(inputs.array("x", x, device))
    single = inputs.is_single(net, x)
    theta = inputs.parameters(net, theta, None if single else len(x), device=device)
    samples = inputs.samples(net, x, theta.dtype, device=device)
    slopes = inputs.array("d_outputs", d_outputs, device)
    lead = samples.shape[1:2] if single else samples.shape[:2]
    if slopes.dtype.kind not in "fiu" or slopes.shape != (*lead, net.outputs):
        raise ValueError(f"d_outputs of shape {slopes.shape} must be numbers of shape {(*lead, net.outputs)}.")
    made = inputs.converted(slopes[None] if single else slopes, theta.dtype, "d_outputs")
    gradients = devices.backend(device).pullback(net.table, theta, samples, made)
    if not checks.all_finite(gradients):
        raise checks.DivergenceError("the pullback is not finite. Scale d_outputs or the data.")
    return gradients[0] if single else gradients


@quiet
def fisher(
    net: Network,
    theta: Array,
    v: Array,
    x: Array,
    weights: Array | None = None,
    *,
    policy: str,
    device: str = "cpu",
) -> Array:
    """F v, (P,) or (T, P): F is the Hessian at theta of the mean over x of KL(policy of theta || new).

    policy: "categorical" or "gaussian", which says what outputs are (fm.PolicyLoss); weights (N,) or (T, N) multiply
    each sample's KL. The same as the `hvp` of that KL at its own outputs, in half the work.
    Raises DivergenceError where the product is not finite.
    """
    x = np.atleast_1d(inputs.array("x", x, device))
    single = inputs.is_single(net, x)
    theta = inputs.parameters(net, theta, None if single else len(x), device=device)
    data = policies_of(net, theta, x, weights, policy, device)
    v = inputs.direction(net, v, None if single else len(data.x), theta.dtype, device)
    product = devices.backend(device).fisher(net.table, theta, v, data)
    if not checks.all_finite(product):
        raise checks.DivergenceError("the fisher product is not finite. Scale v, or look at the log deviations.")
    return product[0] if single else product


def policies_of(net: Network, theta: Array, x: Array, weights: Array | None, policy: str, device: str) -> TaskSet:
    """Observations as `Backend.fisher` takes them."""
    lead = x.shape[: x.ndim - len(net.input_shape)]
    own = np.zeros((*lead, net.outputs), theta.dtype)  # no target: the old outputs are theta's
    return task_set(net, x, own, weights, theta.dtype, device=device, loss=PolicyLoss(policy, "kl"))
