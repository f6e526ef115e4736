"""What is timed: the networks, sizes and inputs of every row, and how many floating-point operations it takes.

Needs NumPy only, because peers read it in environments without fastmeta. Layouts are fastmeta's: images (H, W, C),
convolution kernels (3, 3, I, O), linear weights (I, O), all parameters in one flat theta.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
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
    def forward_flops(self) -> list[int]:
        """Of each layer, for one sample."""
        return [2 * i * o for i, o in zip(self.sizes, self.sizes[1:], strict=False)]


@dataclass(frozen=True)
class Conv4:
    """Four blocks of 3x3 convolution without bias, batch norm (biased variance, eps 1e-5), ReLU; then a linear head.

    downsample="stride": stride 2, and the mean over H and W before the head. "pool": stride 1 and a 2x2 max-pool
    behind each block, flattened in H, W, C order.
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
        return [*shapes, (self.features, self.outputs), (self.outputs,)]

    @property
    def forward_flops(self) -> list[int]:
        """Of each convolution and of the head, for one sample; direct convolution."""
        sides = self.sides[:4] if self.pooled else self.sides[1:]
        inputs = (self.image[2], *[self.channels] * 3)
        products = [2 * math.prod(side) * 9 * i * self.channels for side, i in zip(sides, inputs, strict=True)]
        return [*products, 2 * self.features * self.outputs]


@dataclass(frozen=True)
class Workload:
    """One row of the table. parts[0] is what the row is about; the others are timed beside it."""

    name: str
    title: str
    network: MLP | Conv4
    parts: tuple[str, ...] = ("meta_gradient",)
    tasks: int = 1
    support: int = 0  # samples of one task
    query: int = 0
    steps: int = 0
    inner_lr: float = 0.0
    order: int = 2

    @property
    def labelled(self) -> bool:
        """Cross-entropy of labels, or else mean squared error."""
        return self.outputs > 1

    @property
    def outputs(self) -> int:
        return self.network.parameter_shapes[-1][0]

    @property
    def kind(self) -> str:
        """What decides which variants of a peer are worth trying: "mlp", "conv", "hvp-mlp", "hvp-conv"."""
        network = "mlp" if isinstance(self.network, MLP) else "conv"
        return f"hvp-{network}" if self.parts[0] == "hvp" else network

    def flops(self, part: str) -> int:
        """Multiply-adds, counted as two, of the matrix products that any program has to do; nothing else is counted.

        With F for one forward pass: a gradient is 3F, its tangent passes 6F; a Hessian-vector product alone needs
        no dW, 2F + 6F. The first layer has neither dx nor x_dot.
        """
        first, all_layers = self.network.forward_flops[0], sum(self.network.forward_flops)
        gradient, tangents = 3 * all_layers - first, 6 * all_layers - 4 * first
        if part == "gradient":
            return self.query * gradient
        if part == "hvp":
            return self.query * (2 * all_layers - first + tangents)
        step = gradient + (tangents if self.order == 2 else 0)
        return self.tasks * (self.steps * self.support * step + self.query * gradient)


def inputs(workload: Workload, seed: int = 0) -> dict[str, Array]:
    """theta (P,) and the data in float32; float64 runs cast them, so that every program sees the same numbers."""
    rng = np.random.default_rng(seed)
    arrays = {"theta": _parameters(workload, rng)}
    if workload.parts[0] == "hvp":
        arrays["x"], arrays["y"] = _images(workload, 1, workload.query, rng)
        arrays["v"] = rng.standard_normal(arrays["theta"].size)
        arrays["x"], arrays["y"] = arrays["x"][0], arrays["y"][0]
    else:
        samples = workload.support + workload.query
        x, y = (_images if workload.labelled else _sinusoids)(workload, workload.tasks, samples, rng)
        n = workload.support
        arrays |= {"x_support": x[:, :n], "y_support": y[:, :n], "x_query": x[:, n:], "y_query": y[:, n:]}
    return {
        name: np.ascontiguousarray(a, np.float32 if a.dtype.kind == "f" else np.int64) for name, a in arrays.items()
    }


def _parameters(workload: Workload, rng: np.random.Generator) -> Array:
    """Weights as in He et al. 2015; biases and shifts around 0, scales around 1, none exactly."""
    blocks = []
    shapes = workload.network.parameter_shapes
    for i, shape in enumerate(shapes):
        values = rng.standard_normal(shape)
        if len(shape) > 1:
            values *= math.sqrt(2 / math.prod(shape[:-1]))
        else:
            is_scale = len(shapes[i - 1]) == 4
            values = 0.1 * values + is_scale
        blocks.append(values.ravel())
    return np.concatenate(blocks)


def _sinusoids(workload: Workload, tasks: int, samples: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """The MAML paper's: y = A sin(x - b), A in [0.1, 5], b in [0, pi], x in [-5, 5]."""
    amplitude, phase = rng.uniform(0.1, 5, (tasks, 1, 1)), rng.uniform(0, np.pi, (tasks, 1, 1))
    x = rng.uniform(-5, 5, (tasks, samples, 1))
    return x, amplitude * np.sin(x - phase)


def _images(workload: Workload, tasks: int, samples: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Noise around one mean a class; labels 0, 1, ... in turn, so that any multiple of the classes is balanced."""
    shape, classes = workload.network.input_shape, workload.outputs
    y = np.broadcast_to(np.arange(samples) % classes, (tasks, samples))
    means = rng.standard_normal((tasks, classes, *shape))
    x = np.stack([mean[labels] for mean, labels in zip(means, y, strict=True)])
    return (x + rng.standard_normal(x.shape)) * math.sqrt(0.5), y


def _sinusoid(name: str, title: str, tasks: int, steps: int, order: int = 2) -> Workload:
    network = MLP((1, 40, 40, 1))
    return Workload(name, title, network, tasks=tasks, support=10, query=10, steps=steps, inner_lr=0.01, order=order)


def _omniglot(query: int, steps: int) -> Workload:
    title = f"Omniglot Conv4-64, 32 tasks, {query} queries, {steps} step{'s' * (steps > 1)}"
    network = Conv4((28, 28, 1), 64, 5, "stride")
    name = f"omniglot-q{query}-s{steps}"
    return Workload(name, title, network, tasks=32, support=5, query=query, steps=steps, inner_lr=0.4)


_HVP = ("hvp", "gradient")
_ALL = (
    _sinusoid("sinusoid-25x1", "sinusoid, 25 tasks x 1 step", 25, 1),
    _sinusoid("sinusoid-25x5", "sinusoid, 25 tasks x 5 steps", 25, 5),
    _sinusoid("sinusoid-1000x1", "sinusoid, 1000 tasks x 1 step", 1000, 1),
    _sinusoid("sinusoid-1000x5", "sinusoid, 1000 tasks x 5 steps", 1000, 5),
    _sinusoid("sinusoid-1000x1-first-order", "same, 1000 x 1, first order", 1000, 1, order=1),
    _omniglot(5, 1),
    _omniglot(5, 5),
    _omniglot(75, 1),
    _omniglot(75, 5),
    Workload(
        "miniimagenet-s5",
        "miniImageNet Conv4-32 pool, 2 tasks, 75 queries, 5 steps",
        Conv4((84, 84, 3), 32, 5, "pool"),
        tasks=2,
        support=5,
        query=75,
        steps=5,
        inner_lr=0.01,
    ),
    Workload("hvp-mlp", "HVP of MLP 784-256-256-10, batch 100", MLP((784, 256, 256, 10)), _HVP, query=100),
    Workload("hvp-omniglot", "HVP of Omniglot Conv4-64, batch 25", Conv4((28, 28, 1), 64, 5, "stride"), _HVP, query=25),
)
WORKLOADS = {workload.name: workload for workload in _ALL}
