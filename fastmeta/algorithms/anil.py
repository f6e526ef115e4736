"""ANIL and BOIL: MAML in which only the head, or only the body, takes inner steps."""

from __future__ import annotations

from typing import ClassVar

from fastmeta.algorithms.maml import MAML


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


class BOIL(MAML):
    """Body only update in inner loop: all but the last linear layer moves (Oh et al. 2021, arXiv 2008.08882).

    Arguments, errors and results are MAML's; ValueError where the network's last layer with parameters is not
    Linear, or is its only one.
    """

    adapts = "body"
