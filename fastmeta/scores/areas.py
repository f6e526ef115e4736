"""Area under the ROC curve: how often a positive sample is ranked above a negative one."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmeta.floating import quiet
from fastmeta_kernels.contract import Array


def two_class_areas(outputs: Array, y: Array, weights: Array | None) -> Array:
    """(T,) areas of logits (T, M, 2) for labels (T, M) of 0 and 1, where label 1 is positive."""
    if outputs.shape[2] != 2 or y.dtype.kind == "f":
        raise ValueError(
            f'measure="auc" must be of two classes, not of {outputs.shape[2]} outputs and labels of {y.dtype}. '
            'Number them 0 and 1, or measure "accuracy".'
        )
    shares = np.ones(y.shape) if weights is None else np.asarray(weights, np.float64)
    values = outputs[:, :, 1].astype(np.float64) - outputs[:, :, 0]
    return np.array([area(*row) for row in zip(values, y == 1, shares, strict=True)])


@quiet
def area(values: Array, positive: Array, weights: Any = None) -> float:
    """The weighted share of pairs in which the positive sample has the larger of `values` (M,); ties count half.

    Hanley & McNeil 1982 (Radiology 143(1)): the Mann-Whitney statistic. positive (M,): True or False. weights (M,).
    Raises ValueError where one of the two kinds has no sample.

    >>> area(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    0.75
    """
    weights = np.ones(len(values)) if weights is None else weights
    groups, place = np.unique(values, return_inverse=True)
    above = np.bincount(place, weights * positive, len(groups))
    below = np.bincount(place, weights * ~positive, len(groups))
    pairs = above.sum() * below.sum()
    if not pairs > 0:
        raise ValueError('measure="auc" must have samples of both classes in every query set. Draw more queries.')
    return float((above * (np.cumsum(below) - below / 2)).sum() / pairs)
