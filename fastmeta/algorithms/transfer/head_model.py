"""What `Transfer.adapt` gives: fixed features and a head of one task."""

from __future__ import annotations

from typing import ClassVar

from numpy.typing import ArrayLike

from fastmeta.algorithms.transfer.heads import normalised
from fastmeta.floating import quiet
from fastmeta.learning.adapted_model import AdaptedModel
from fastmeta_kernels.contract import Array


class HeadModel(AdaptedModel, kw_only=True):
    """`net` gives features, the same for every task; logits are normalised features @ weight + bias.

    weight (D, K) and bias (1, K), or with a leading T.
    """

    algorithm: ClassVar = "Transfer"
    weight: Array
    bias: Array

    @quiet
    def _outputs(self, x: ArrayLike) -> Array:
        """Logits (N, K) of x (N, ...), or (T, N, K) of x (T, N, ...)."""
        features = normalised(super()._outputs(x))
        tasks = len(features) if features.ndim == 3 else 1
        if self.weight.ndim == 3 and tasks != len(self.weight):
            raise ValueError(f"x has {tasks} tasks but the model was adapted to {len(self.weight)}.")
        logits: Array = features @ self.weight + self.bias
        return logits
