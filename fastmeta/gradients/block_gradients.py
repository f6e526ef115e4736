"""The meta-gradients of blocks of tasks at once: what each rank computes of a meta-batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastmeta import device as devices
from fastmeta import inputs, memory
from fastmeta.floating import quiet
from fastmeta.gradients.functions import by_name, check_result
from fastmeta.gradients.task_sets import batch_sets
from fastmeta.networks.losses import Loss
from fastmeta.networks.network import Network
from fastmeta.record import Record
from fastmeta.tasks.episode import Batch
from fastmeta_kernels.contract import Array


class BlockGradients(Record):
    """What `meta_gradient` gives of each of B blocks of tasks."""

    loss: Array  # (B,) float64, mean query losses
    gradient: Array  # (B, P)
    inner_lr_gradient: Array  # (B, ...) of inner_lr's shape
    step_gradients: dict[str, Array]  # of step_parameters, (B, ...) of their shapes


@quiet
def block_gradients(
    net: Network,
    theta: Array,
    batch: Batch,
    blocks: Sequence[tuple[int, int]],
    inner_lr: Any,
    inner_steps: int,
    order: int = 2,
    adapt: str = "all",
    device: str = "cpu",
    *,
    loss: Loss | None = None,
    loss_weights: Any = None,
    step_parameters: dict[str, Array] | None = None,
) -> BlockGradients:
    """`meta_gradient` of each block of tasks begin .. end - 1 of `batch`; blocks stand behind each other and are all.

    The bits of a block are its own, whatever other blocks there are. Arguments and errors as in `meta_gradient`.
    """
    theta = inputs.parameters(net, theta, device=device)
    support, query = batch_sets(net, batch, theta.dtype, device, loss)
    inner = inputs.inner_loop(net, inner_lr, inner_steps, adapt, theta.dtype, step_parameters)
    shares = inputs.loss_weights(loss_weights, inner.steps, theta.dtype)
    with memory.counted("tasks", len(batch)):
        asked = support, query, inner, blocks, order, "auto", shares
        result = devices.backend(device).block_gradients(net.table, theta, *asked)
    check_result(result, inner_lr)
    begins, ends = np.array(blocks).T
    return BlockGradients(
        np.add.reduceat(result.query_losses, begins, dtype=np.float64) / (ends - begins),
        result.gradient,
        result.rates_gradient.reshape(len(blocks), *np.shape(inner_lr)),
        by_name(net, inner.step_parameters, result.step_parameters_gradient),
    )
