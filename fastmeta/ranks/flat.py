"""Slopes of everything that is learned as one flat row, and back: what ranks send each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastmeta_kernels.contract import Array
from fastmeta_kernels.host import on_host


class Layout:
    """Where each parameter's slope lies in a row of `size` values of theta's dtype."""

    def __init__(self, parameters: Mapping[str, Array]) -> None:
        self.shapes = {name: np.shape(values) for name, values in parameters.items()}
        self.dtype = np.dtype(str(parameters["theta"].dtype))
        self.size = sum(int(np.prod(shape)) for shape in self.shapes.values())

    def row(self, slopes: Mapping[str, Any], share: float) -> Array:
        """(size,): slopes times `share`, from wherever they lie; ValueError where one is not there."""
        if odd := sorted(self.shapes.keys() ^ slopes.keys()):
            raise ValueError(
                f"slopes of {', '.join(slopes)} must be of {', '.join(self.shapes)}, which initial_parameters names: "
                f"{odd[0]} is in one of them only. Return a slope for each from meta_gradients."
            )
        parts = [np.asarray(on_host(slopes[name]), self.dtype).reshape(shape) for name, shape in self.shapes.items()]
        row: Array = np.concatenate([part.ravel() for part in parts])
        row *= self.dtype.type(share)
        return row

    def slopes(self, row: Array) -> dict[str, Array]:
        """The slopes in a row, by name."""
        edges = np.cumsum([int(np.prod(shape)) for shape in self.shapes.values()])[:-1]
        parts = np.split(row, edges)
        return {name: part.reshape(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}


def in_order(rows: Array) -> Array:
    """The sum of rows (B, n), one after the other: the same bits however many columns there are."""
    total: Array = rows[0].copy()
    for row in rows[1:]:
        total += row
    return total
