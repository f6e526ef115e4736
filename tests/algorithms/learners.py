"""One table of learners for what every algorithm that takes inner steps promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastmeta as fm
from fastmeta.learning.learner import Learner
from tests.gradcheck import slope_errors

LEARNERS: dict[str, Callable[..., Any]] = {
    "MAML": lambda net, **o: fm.MAML(net, 0.02, 2, learn_inner_lr=True, **o),
    "FOMAML": lambda net, **o: fm.FOMAML(net, 0.02, 2, **o),
    "ANIL": lambda net, **o: fm.ANIL(net, 0.05, 3, **o),
    "BOIL": lambda net, **o: fm.BOIL(net, 0.02, 2, learn_inner_lr=True, **o),
    "MetaSGD": lambda net, **o: fm.MetaSGD(net, 0.02, 2, **o),
    "MAML++": lambda net, **o: fm.MAMLPlusPlus(net, 0.02, 3, multi_step_iterations=50, first_order_iterations=2, **o),
    "ArchitectureMAML": lambda net, **o: fm.ArchitectureMAML(net, 0.02, 2, operations="conv1,none", **o),
    "Reptile": lambda net, **o: fm.Reptile(net, 0.01, 8, inner_batch=4, **o),
    "Reptile with SGD": lambda net, **o: fm.Reptile(net, 0.02, 8, inner_batch=4, inner_optimizer="sgd", **o),
    "iMAML": lambda net, **o: fm.iMAML(net, 0.01, 16, regularization=0.5, cg_steps=5, **o),
    "iMAML, damped": lambda net, **o: fm.iMAML(net, 0.05, 10, 2.0, 5, cg_damping=22.0, proximal="after", **o),
}


def meta_gradient_errors(
    learner: Learner, batch: fm.Batch, seed: int = 0, loss: Callable[[], float] | None = None
) -> dict[str, float]:
    """Relative errors of every meta-parameter's slope against central differences of the learner's loss.

    loss: a quicker way to the loss of meta_gradients.
    """

    def objective(parameters: dict[str, np.ndarray]) -> float:
        learner._training = learner.training._replace(parameters=parameters)
        return learner.meta_gradients(batch)[0] if loss is None else loss()

    parameters = learner.parameters
    return slope_errors(objective, parameters, learner.meta_gradients(batch)[1], seed)


class Fixed:
    """Tasks that are the same batch at every step."""

    def __init__(self, batch: fm.Batch) -> None:
        self.batch = batch

    def sample(self, tasks: int, seed: int, step: int = 0) -> fm.Batch:
        """The batch."""
        return self.batch
