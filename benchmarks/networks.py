"""The networks of the rows as shapes and operations. NumPy and fastmeta are not needed to read them.

Layouts are fastmeta's: images (H, W, C), convolution kernels (3, 3, I, O), linear weights (I, O), all parameters in
one flat theta.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True)
class MLP:
    """Linear layers with ReLU between them."""

    sizes: Shape

    @property
    def input_shape(self) -> Shape:
        return self.sizes[:1]

    @property
    def parameter_shapes(self) -> list[Shape]:
        """W (I, O) and b (O,) of each layer."""
        return [shape for i, o in zip(self.sizes, self.sizes[1:], strict=False) for shape in ((i, o), (o,))]

    @property
    def outputs(self) -> int:
        return self.sizes[-1]

    @property
    def forward_flops(self) -> list[int]:
        """Of each layer, for one sample."""
        return [2 * i * o for i, o in zip(self.sizes, self.sizes[1:], strict=False)]


@dataclass(frozen=True)
class Conv4:
    """Four blocks of 3x3 convolution without bias, batch norm (biased variance, eps 1e-5), ReLU; then a linear head.

    downsample="stride": stride 2, and the mean over H and W before the head. "pool": stride 1 and a 2x2 max-pool
    behind each block, flattened in H, W, C order. outputs=0: no head, the features are embeddings.
    """

    image: Shape
    channels: int
    outputs: int
    downsample: str

    @property
    def input_shape(self) -> Shape:
        return self.image

    @property
    def pooled(self) -> bool:
        return self.downsample == "pool"

    @property
    def sides(self) -> list[Shape]:
        """(H, W) of the input and behind each block."""
        sides = [self.image[:2]]
        for _ in range(4):
            sides.append(tuple(n // 2 if self.pooled else (n + 1) // 2 for n in sides[-1]))
        return sides

    @property
    def features(self) -> int:
        return self.channels * (math.prod(self.sides[-1]) if self.pooled else 1)

    @property
    def parameter_shapes(self) -> list[Shape]:
        """Kernel (3, 3, I, O), scale (O,), shift (O,) of each block; W (I, O) and b (O,) of the head."""
        shapes: list[Shape] = []
        for inputs in (self.image[2], *[self.channels] * 3):
            shapes += [(3, 3, inputs, self.channels), (self.channels,), (self.channels,)]
        return [*shapes, (self.features, self.outputs), (self.outputs,)] if self.outputs else shapes

    @property
    def forward_flops(self) -> list[int]:
        """Of each convolution and of the head, for one sample; direct convolution."""
        sides = self.sides[:4] if self.pooled else self.sides[1:]
        inputs = (self.image[2], *[self.channels] * 3)
        products = [2 * math.prod(side) * 9 * i * self.channels for side, i in zip(sides, inputs, strict=True)]
        return [*products, 2 * self.features * self.outputs] if self.outputs else products


@dataclass(frozen=True)
class Embeddings:
    """No network: the samples are embeddings already."""

    features: int

    @property
    def input_shape(self) -> Shape:
        return (self.features,)

    @property
    def parameter_shapes(self) -> list[Shape]:
        return []

    @property
    def outputs(self) -> int:
        return 0

    @property
    def forward_flops(self) -> list[int]:
        return []


Network = MLP | Conv4 | Embeddings
