"""Meta-SGD: MAML that learns a rate for every parameter (Li, Zhou, Chen & Li 2017)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fastmeta.algorithms.maml import MAML
from fastmeta.floating import quiet
from fastmeta.learning.gradient_learner import InnerRate, InnerSteps
from fastmeta.learning.query_norms import QueryBatchNorm
from fastmeta.networks.losses import Loss
from fastmeta.networks.network import Network
from fastmeta_kernels.contract import Array


class MetaSGD(MAML):
    """phi = theta - alpha * grad L(theta), theta and alpha (P,) both learned (arXiv 1707.09835, algorithm 1).

    inner_lr: what alpha starts from, a number or (P,); the entries learn by their own gradients and the same
    optimizer, and may become negative. The paper takes one inner step and draws alpha from [0.005, 0.1]. Other
    arguments, errors and results are MAML's.

    >>> from fastmeta import MLP, MetaSGD, tasks
    >>> meta_sgd = MetaSGD(MLP((1, 40, 40, 1)), device="numpy").fit(tasks.Sinusoid(), iterations=2)
    >>> meta_sgd.rates.shape
    (1761,)
    """

    word = "meta-sgd"
    recipes: ClassVar = {
        "omniglot": {"inner_lr": 0.1, "inner_steps": 1, "evaluation_steps": (1,)},
        "images": {"inner_steps": 1, "evaluation_steps": (1,)},
    }

    def __init__(
        self,
        net: Network,
        inner_lr: InnerRate = 0.01,
        inner_steps: InnerSteps = 1,
        device: str = "cpu",
        *,
        loss: Loss | None = None,
        query_batch_norm: QueryBatchNorm = None,
    ) -> None:
        super().__init__(
            net, inner_lr, inner_steps, learn_inner_lr=True, device=device, loss=loss, query_batch_norm=query_batch_norm
        )
        count = net.parameter_count
        if np.shape(self.inner_lr) not in ((), (count,)):
            raise ValueError(f"inner_lr of shape {np.shape(self.inner_lr)} must be a number or ({count},) for {net}.")

    @quiet
    def initial_parameters(self, theta: Array, seed: int = 0) -> dict[str, Array]:
        """theta (P,), and inner_lr (P,): a rate for each of its values."""
        return {"theta": theta, "inner_lr": np.full(theta.shape, self.inner_lr, theta.dtype)}
