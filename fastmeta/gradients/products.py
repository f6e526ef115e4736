"""Products with a Hessian or a Fisher matrix along many directions: the passes at theta are kept, where a device can.

At theta (T, P), for data (T B, N, ...): B equal parts of each task, whose mean is taken. What comes back takes v (T, P)
and gives what `hvp` and `fisher` give of all samples of a task.
"""

from __future__ import annotations

from collections.abc import Callable

from fastmeta import checks, inputs
from fastmeta import device as devices
from fastmeta.floating import quiet
from fastmeta.gradients.outputs import policies_of
from fastmeta.gradients.task_sets import task_set
from fastmeta.networks.losses import Loss
from fastmeta.networks.network import Network
from fastmeta_kernels.contract import Array, TaskSet

Product = Callable[[Array], Array]


@quiet
def hessian(
    net: Network,
    theta: Array,
    x: Array,
    y: Array,
    weights: Array | None = None,
    *,
    log_probs: Array | None = None,
    loss: Loss | None = None,
    device: str = "cpu",
) -> Product:
    """v (T, P) -> H v (T, P), the Hessian of the loss at theta (T, P); arguments as of `hvp`.

    Raises DivergenceError where a product is not finite.
    """
    theta = inputs.parameters(net, theta, len(theta), device=device)
    data = task_set(net, x, y, weights, theta.dtype, device=device, loss=loss, log_probs=log_probs)
    return _products("hvp", net, theta, data, device)


@quiet
def fisher(
    net: Network, theta: Array, x: Array, weights: Array | None = None, *, policy: str, device: str = "cpu"
) -> Product:
    """v (T, P) -> F v (T, P), the Hessian of the mean KL at theta (T, P); arguments as of `fm.fisher`.

    Raises DivergenceError where a product is not finite.
    """
    theta = inputs.parameters(net, theta, len(theta), device=device)
    return _products("fisher", net, theta, policies_of(net, theta, x, weights, policy, device), device)


def _products(kind: str, net: Network, theta: Array, data: TaskSet, device: str) -> Product:
    product = devices.backend(device).products(kind, net.table, theta, data)

    @quiet
    def checked(v: Array) -> Array:
        found = product(inputs.direction(net, v, len(theta), theta.dtype, device))
        if not checks.all_finite(found):
            raise checks.DivergenceError(
                f"a {'Hessian' if kind == 'hvp' else 'Fisher'} product is not finite. Scale v or the data."
            )
        return found

    return checked
