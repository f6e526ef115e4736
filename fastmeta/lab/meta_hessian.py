"""Products with the Hessian of the meta-loss, exact to rounding, by a complex step through the reference.

The reference is analytic: in a complex number the real part decides every side of a kink, and nothing takes a
modulus or a conjugate. So Im f(theta + i h v) / h is f'(theta) v with no difference and no cancellation.
Squire & Trapp 1998, doi 10.1137/S003614459631241X.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta import checks, inputs
from fastmeta.floating import quiet
from fastmeta.gradients.task_sets import batch_sets
from fastmeta.networks.losses import Loss
from fastmeta.networks.network import Network
from fastmeta.tasks.episode import Batch

Array = NDArray[Any]
STEP = 1e-30  # its square is 0 beside any number


@quiet
def meta_hvp(
    net: Network,
    theta: Array,
    v: Array,
    batch: Batch,
    inner_lr: Any = 0.01,
    inner_steps: int = 1,
    adapt: str = "all",
    loss_weights: Any = None,
    *,
    loss: Loss | None = None,
) -> Array:
    """H v (P,), float64: H is the Hessian by theta of the mean query loss after the inner loop.

    Arguments as in `meta_gradient`, v (P,) a direction; inner_steps=0 gives the Hessian of the query loss itself. It
    takes what about four exact meta-gradients take on device="numpy". At a kink (ReLU, max-pool) it is that of the
    side theta is on. Raises DivergenceError where the product is not finite.

    >>> from fastmeta import MLP, lab, tasks
    >>> net, batch = MLP((1, 8, 1), "softplus"), tasks.Sinusoid().sample(4, seed=0)
    >>> theta = net.init(dtype="float64")
    >>> lab.meta_hvp(net, theta, theta, batch, inner_steps=3).shape
    (25,)
    """
    from fastmeta_kernels import reference

    theta = inputs.parameters(net, inputs.array("theta", theta).astype(np.float64))
    v = inputs.direction(net, v, None, np.float64)
    support, query = batch_sets(net, batch, np.float64, loss=loss)
    inner = inputs.inner_loop(net, inner_lr, inner_steps, adapt, np.float64)
    shares = inputs.loss_weights(loss_weights, inner.steps, np.float64)
    inner = inner._replace(rates=inner.rates.astype(np.complex128))
    shifted = theta + 1j * STEP * v
    found = reference.meta_gradient(net.table, shifted, support, query, inner, 2, "stash", shares)
    product = found.gradient.imag / STEP
    if not checks.all_finite(product):
        raise checks.DivergenceError("the product is not finite. Halve inner_lr, or scale v or the data to about 1.")
    return np.asarray(product)
