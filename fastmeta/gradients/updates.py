"""Several updates of theta in one call of a backend: meta-gradients, each followed by a step of Adam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmeta import device as devices
from fastmeta import inputs
from fastmeta.floating import quiet
from fastmeta.gradients.task_sets import batch_sets
from fastmeta.networks.losses import Loss
from fastmeta.networks.network import Network
from fastmeta_kernels.contract import Array

if TYPE_CHECKING:
    from fastmeta.tasks.episode import Batch


@quiet
def meta_updates(
    net: Network,
    theta: Array,
    moments: Sequence[Array],
    batches: Sequence[Batch],
    numbers: Sequence[tuple[float, float, float, float]],
    inner_lr: Any,
    inner_steps: int,
    order: int,
    adapt: str,
    device: str,
    *,
    loss: Loss | None = None,
) -> list[tuple[float, Array, tuple[Array, Array]]]:
    """Mean query loss, theta (P,) and Adam's moments after an update by each batch in turn, to the bits of
    `meta_gradient` and `Adam.update`; numbers: `Adam.numbers` of each.

    As many as can be had so: none where the backend has no such call or has not computed one update by itself before,
    and none from the first on in which something is wrong or not finite.
    """
    run = getattr(devices.backend(device), "updates", None)
    if run is None or any(type(m) is not np.ndarray or m.shape != theta.shape for m in moments):
        return []
    theta, sets = inputs.parameters(net, theta, device=device), []
    for batch in batches:
        try:
            sets.append(batch_sets(net, batch, theta.dtype, device, loss))
        except (TypeError, ValueError):  # which its own update will raise
            break
    inner = inputs.inner_loop(net, inner_lr, inner_steps, adapt, theta.dtype)
    found = run(net.table, theta, moments, sets, inner, order, numbers[: len(sets)]) if sets else None
    if found is None:
        return []
    losses, states = found
    means = [float(np.add.reduce(row, dtype=np.float64)) / len(row) for row in losses]
    return [(mean, now[0].copy(), (now[1].copy(), now[2].copy())) for mean, now in zip(means, states, strict=True)]
