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
    states: Array,
    batch: Batch,
    numbers: Sequence[tuple[float, float, float, float]],
    inner_lr: Any,
    inner_steps: int,
    order: int,
    adapt: str,
    device: str,
    *,
    loss: Loss | None = None,
) -> Array | None:
    """Mean query losses (n,) of updates, to the bits of `meta_gradient` and `Adam.update`.

    numbers: `Adam.numbers` of each. states (n + 1, 3, P): theta and Adam's moments; the first are given, those after
    each update are written. batch: the tasks of all updates, behind each other. As many as can be had so: None where
    the backend has no such call or has not computed one update by itself before, or where something of the batch is
    wrong, which its own update will say; and none from the first on in which something is not finite.
    """
    run = getattr(devices.backend(device), "updates", None)
    if run is None:
        return None
    dtype = inputs.parameters(net, states[0, 0], device=device).dtype
    try:
        support, query = batch_sets(net, batch, dtype, device, loss)
    except (TypeError, ValueError):
        return None
    inner = inputs.inner_loop(net, inner_lr, inner_steps, adapt, dtype)
    losses = run(net.table, states, support, query, inner, order, numbers)
    return None if losses is None else np.add.reduce(losses, axis=1, dtype=np.float64) / losses.shape[1]
