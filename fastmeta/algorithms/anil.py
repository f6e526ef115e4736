"""ANIL and BOIL: MAML in which only the head, or only the body, takes inner steps."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np

from fastmeta.algorithms.maml import MAML
from fastmeta.networks.network import Network
from fastmeta_kernels.contract import Array


class ANIL(MAML):
    """Almost no inner loop: inner steps move the last linear layer alone (Raghu et al. 2020, arXiv 1909.09157).

    The meta-gradient is exact: the body learns through the adaptation of the head. Arguments, errors and results
    are MAML's; ValueError where the network's last layer with parameters is not Linear.

    >>> from fastmeta import ANIL, MLP, tasks
    >>> anil = ANIL(MLP((1, 40, 40, 1)), inner_lr=0.01, inner_steps=5, device="numpy")
    >>> anil.fit(tasks.Sinusoid(), iterations=2).evaluate(tasks.Sinusoid(), episodes=4).measure
    'mse'
    """

    adapts = "head"
    recipes: ClassVar = {
        "sinusoid": {"inner_lr": 0.05, "inner_steps": 5},
        "omniglot": {"inner_steps": 5, "evaluation_steps": (5,)},
    }

    def share_head(self) -> Self:
        """Let all classes begin from one weight and bias, the mean of the learned ones; returns the learner.

        That is the mean of the head over all orders of the classes, on which a learned one depends (Ye & Chao 2022,
        arXiv 2106.16245). Call it behind training: `evaluate`, `adapt`, `save` and `fm.export` then have it. Raises
        RuntimeError before training, ValueError where there are no classes.
        """
        if self.net.outputs == 1 or (self.loss is not None and not self.loss.labelled):
            raise ValueError(f"{self.net} with loss={self.loss} must classify to share its head: leave it as it is.")
        self._training = self.training._replace(parameters=_shared(self.net, self.training.parameters))
        if self._best is not None:
            self._best = self._best._replace(parameters=_shared(self.net, self._best.parameters))
        return self


class BOIL(MAML):
    """Body only update in inner loop: all but the last linear layer moves (Oh et al. 2021, arXiv 2008.08882).

    Arguments, errors and results are MAML's; ValueError where the network's last layer with parameters is not
    Linear, or is its only one.
    """

    adapts = "body"


def _shared(net: Network, parameters: dict[str, Array]) -> dict[str, Array]:
    """What was learned with equal columns of the last linear layer, of a rate for each parameter too."""
    found = {}
    for name, values in parameters.items():
        found[name] = values.copy()
        if values.shape[-1] == net.parameter_count:
            views = net.views(found[name])
            for array in [array for name, array in views.items() if name.startswith("linear")][-2:]:
                array[...] = array.mean(axis=-1, keepdims=True, dtype=np.float64)
    return found
