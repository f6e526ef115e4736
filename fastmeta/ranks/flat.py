"""Slopes of everything that is learned as one flat row, and back: what ranks send each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        self._room: Any = None
        ends = list(accumulate(prod(shape) for shape in self.shapes.values()))
        self.size, self._places = ends[-1], dict(zip(self.shapes, pairwise([0, *ends]), strict=True))

    def rows(self, slopes: Mapping[str, Any], shares: Array, arrays: Any = np) -> Any:
        """(B, size): slopes (B, ...) times shares (B,), from wherever they lie; ValueError where one is not there.

        An array of the module `arrays`, NumPy or CuPy. Its room is that of the last call with as many.
        """
        if odd := sorted(self.shapes.keys() ^ slopes.keys()):
            raise ValueError(
                f"slopes of {', '.join(slopes)} must be of {', '.join(self.shapes)}, which initial_parameters names: "
                f"{odd[0]} is in one of them only. Return a slope for each from meta_gradients."
            )
        if type(self._room) is not arrays.ndarray or len(self._room) != len(shares):
            self._room = arrays.empty((len(shares), self.size), self.dtype)
        rows, factors = self._room, arrays.asarray(shares.astype(self.dtype)[:, None])
        for name, (begin, end) in self._places.items():
            given = slopes[name] if arrays is not np else on_host(slopes[name])
            given = arrays.asarray(given, self.dtype).reshape(len(shares), end - begin)
            np.multiply(given, factors, out=rows[:, begin:end])
        return rows

    def slopes(self, row: Array) -> dict[str, Array]:
        """The slopes in a row, by name, where it lies."""
        return {name: row[slice(*self._places[name])].reshape(shape) for name, shape in self.shapes.items()}


def in_order(rows: Array | Sequence[Array]) -> Array:
    """The sum of rows (B, n), one after the other: the same bits however many columns there are, on any device."""
    total: Array = rows[0].copy()
    for row in rows[1:]:
        total += row
    return total
