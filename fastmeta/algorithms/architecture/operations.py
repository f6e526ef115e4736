"""Linear operations of one stride as kernels of one convolution: where the weights of each lie in the widest kernel.

A weight w of an operation stands in a kernel (k, k, I, O) as E w. E is linear and so is convolution, so that a sum of
operations is the convolution with the sum of their kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta.networks.layers import Shape

Array = NDArray[Any]


@dataclass(frozen=True)
class Operation:
    """One candidate. `taps` of a side, `apart` pixels from one to the next, around the middle of the kernel."""

    taps: int
    apart: int = 1
    channelwise: bool = False  # each output channel looks at the input channel of its number alone
    constant: float | None = None  # every tap's weight, where none is learned

    @property
    def extent(self) -> int:
        """Pixels of a side that it needs of a kernel."""
        return (self.taps - 1) * self.apart + 1 if self.taps else 1

    def fits(self, kernel: Shape) -> bool:
        """Whether it can stand in a kernel (k, k, I, O)."""
        return self.extent <= kernel[0] and (not self.channelwise or kernel[2] == kernel[3])

    def multiply_adds(self, kernel: Shape) -> int:
        """Of a pixel of its output in a kernel (k, k, I, O)."""
        if self.constant in (0, 1):
            return 0
        return self.taps**2 * (1 if self.channelwise else kernel[2]) * kernel[3]

    def shape(self, kernel: Shape) -> Shape:
        """Of its weight in a kernel (k, k, I, O); (0,) where it learns none."""
        if self.constant is not None:
            return (0,)
        return (self.taps, self.taps, *(kernel[3:] if self.channelwise else kernel[2:]))

    def place(self, weight: Array, kernel: Shape) -> Array:
        """E w, of shape `kernel`."""
        placed = np.zeros(kernel, weight.dtype)
        if self.taps:
            placed[self._where(kernel)] = weight if self.constant is None else self.constant
        return placed

    def take(self, kernel: Array) -> Array:
        """E^T K, what of a kernel (k, k, I, O) lies where its weight lies."""
        if self.constant is not None:
            return np.zeros(0, kernel.dtype)
        return np.asarray(kernel[self._where(kernel.shape)])

    def first(self, kernel: Array) -> Array:
        """A first weight from a first kernel: what it takes of it, at the variance of its own smaller fan-in."""
        inputs = 1 if self.channelwise else kernel.shape[2]
        fans = kernel.shape[0] ** 2 * kernel.shape[2], max(self.taps**2 * inputs, 1)
        return np.asarray(self.take(kernel) * kernel.dtype.type(np.sqrt(fans[0] / fans[1])))

    def _where(self, kernel: Shape) -> tuple[Any, ...]:
        along = kernel[0] // 2 + self.apart * (np.arange(self.taps) - self.taps // 2)
        rows, columns = along[:, None], along[None, :]
        if not self.channelwise:
            return rows, columns
        channels = np.arange(kernel[2])
        return rows[..., None], columns[..., None], channels, channels


OPERATIONS: dict[str, Operation] = {
    "conv1": Operation(1),
    "conv3": Operation(3),
    "conv5": Operation(5),
    "conv7": Operation(7),
    "dilated3": Operation(3, apart=2),
    "depthwise3": Operation(3, channelwise=True),
    "mean3": Operation(3, channelwise=True, constant=1 / 9),
    "identity": Operation(1, channelwise=True, constant=1.0),
    "none": Operation(0, constant=0.0),
}
