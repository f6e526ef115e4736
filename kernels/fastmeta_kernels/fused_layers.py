"""What fast backends run of a layer table: Flatten gone, a ReLU taken over by the layer before it."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels import layer_table as lt


def fused(
    table: lt.Table,
    takes_relu: Collection[int],
    leaves_out: Callable[[lt.Table, int], bool] = lambda table, i: True,
    fuses_last: bool = True,
) -> list[tuple[NDArray[np.int64], bool]]:
    """Copies of the rows that are layers, and whether each takes over the ReLU behind it.

    takes_relu: kinds that can; leaves_out(table, i): whether Flatten i is no layer; fuses_last: whether the network's
    output may be one that a layer rectifies itself.
    """
    kept = [row for i, row in enumerate(table) if row[lt.KIND] != lt.FLATTEN or not leaves_out(table, i)]
    layers: list[tuple[NDArray[np.int64], bool]] = []
    for i, row in enumerate(kept):
        if row[lt.KIND] == lt.RELU and layers and (fuses_last or i + 1 < len(kept)):
            before, rectifies = layers[-1]
            if before[lt.KIND] in takes_relu and not rectifies:
                layers[-1] = before, True
                continue
        layers.append((row.copy(), False))
    return layers
