"""The papers' networks by name."""

from __future__ import annotations

from collections.abc import Sequence

from fastmeta import checks
from fastmeta.networks.layers import (
    BatchNorm,
    Conv2d,
    Flatten,
    GlobalMeanPool,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Softplus,
    Tanh,
)
from fastmeta.networks.network import Network

ACTIVATIONS: dict[str, type[Layer]] = {"relu": ReLU, "tanh": Tanh, "softplus": Softplus}


def MLP(sizes: Sequence[int], activation: str = "relu", scheme: str = "glorot_uniform") -> Network:
    """Linear layers of `sizes` with "relu", "tanh" or "softplus" between them; scheme as in `Network.init`.

    >>> list(MLP((1, 40, 1)).parameter_shapes)
    ['linear1.weight', 'linear1.bias', 'linear2.weight', 'linear2.bias']
    """
    widths = [checks.integer("sizes", n, 1) for n in sizes]
    if len(widths) < 2:
        raise ValueError(f"sizes={tuple(sizes)} must name at least inputs and outputs, as in (1, 40, 40, 1).")
    between = ACTIVATIONS[checks.choice("activation", activation, ACTIVATIONS)]
    made: list[Layer] = []
    for width in widths[1:]:
        made += [Linear(width), between()]
    own = "" if scheme == "glorot_uniform" else f', scheme="{scheme}"'
    return Network(made[:-1], (widths[0],), f"MLP(sizes={tuple(widths)}{own})", scheme)


def Conv4(
    image: Sequence[int] = (28, 28, 1),
    channels: int = 64,
    outputs: int | None = 5,
    downsample: str = "stride",
) -> Network:
    """Four blocks of 3x3 convolution (no bias), batch norm, ReLU; then a linear head unless outputs=None.

    downsample="stride": stride-2 convolutions, then the mean over H and W (the MAML code's Omniglot network).
    downsample="pool": 2x2 max-pools behind each block, then flatten in H, W, C order (Vinyals et al. 2016).
    """
    checks.choice("downsample", downsample, ("stride", "pool"))
    shape = tuple(checks.integer("image", n, 1) for n in image)
    channels = checks.integer("channels", channels, 1)
    outputs = None if outputs is None else checks.integer("outputs", outputs, 1)
    if len(shape) != 3:
        raise ValueError(f"image={shape} must be (height, width, channels), as in (28, 28, 1).")
    stride = 2 if downsample == "stride" else 1
    made: list[Layer] = []
    for _ in range(4):
        made += [Conv2d(channels, stride=stride, bias=False), BatchNorm(), ReLU()]
        made += [MaxPool2d(2)] if downsample == "pool" else []
    made += [GlobalMeanPool() if downsample == "stride" else Flatten()]
    made += [] if outputs is None else [Linear(outputs)]
    name = f'Conv4(image={shape}, channels={channels}, outputs={outputs}, downsample="{downsample}")'
    return Network(made, shape, name)
