"""Slopes of everything that is learned as one flat row, and back: what ranks send each other."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate, pairwise
from math import prod
from typing import Any

import numpy as np

from fastmeta_kernels.contract import Array
from fastmeta_kernels.host import on_host


class Layout:
    """Where each parameter's slope lies in a row of `size` values of theta's dtype."""

    def __init__(self, parameters: Mapping[str, Array]) -> None:
        self.shapes = {name: np.shape(values) for name, values in parameters.items()}
        self.dtype = np.dtype(str(parameters["theta"].dtype))
        self._room: Array | None = None
        ends = list(accumulate(prod(shape) for shape in self.shapes.values()))
        self.size, self._places = ends[-1], dict(zip(self.shapes, pairwise([0, *ends]), strict=True))

    def rows(self, slopes: Mapping[str, Any], shares: Array) -> Array:
        """(B, size): slopes (B, ...) times shares (B,), from wherever they lie; ValueError where one is not there.

        Its room is that of the last call with as many.
        """
        if odd := sorted(self.shapes.keys() ^ slopes.keys()):
            raise ValueError(
                f"slopes of {', '.join(slopes)} must be of {', '.join(self.shapes)}, which initial_parameters names: "
                f"{odd[0]} is in one of them only. Return a slope for each from meta_gradients."
            )
        if self._room is None or len(self._room) != len(shares):
            self._room = np.empty((len(shares), self.size), self.dtype)
        rows, factors = self._room, shares.astype(self.dtype)[:, None]
        for name, (begin, end) in self._places.items():
            given = np.asarray(on_host(slopes[name]), self.dtype).reshape(len(shares), end - begin)
            np.multiply(given, factors, out=rows[:, begin:end])
        return rows

    def slopes(self, row: Array) -> dict[str, Array]:
        """The slopes in a row, by name."""
        return {name: row[slice(*self._places[name])].reshape(shape) for name, shape in self.shapes.items()}


def in_order(rows: Array) -> Array:
    """The sum of rows (B, n), one after the other: the same bits however many columns there are."""
    total: Array = rows[0].copy()
    for row in rows[1:]:
        total += row
    return total
