"""Weights from PyTorch and back, against PyTorch: `python -m benchmarks.state_dicts` where torch is installed.

Each network is built twice, here and as an nn.Sequential of the same layers. The module's random float32 weights and
running statistics are read here ("taken"), then random float32 parameters of ours are given to it ("given"). Both
compute the outputs of the same samples, in float64 and in float32: the largest difference, divided by the largest
output. In float32 both round; what either is off by from float64 stands beside.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

import fastmeta as fm

SAMPLES = 25
NETWORKS = {
    "Conv4 stride": fm.Conv4((28, 28, 1), 64, 5, "stride"),
    "Conv4 pool": fm.Conv4((28, 28, 1), 64, 5, "pool"),
    "Conv4 pool 84 x 84": fm.Conv4((84, 84, 3), 32, 5, "pool"),
    "MLP": fm.MLP((1, 40, 40, 1)),
    "MLP wide": fm.MLP((784, 256, 256, 10), "tanh"),
    "chain": fm.Network(
        [
            fm.Conv2d(8, 5, 2, 1),
            fm.Affine(),
            fm.LayerNorm(),
            fm.Softplus(),
            fm.MaxPool2d(2),
            fm.Flatten(),
            fm.BatchNorm(),
            fm.Tanh(),
            fm.Linear(16),
            fm.LayerNorm(),
            fm.Affine(),
            fm.ReLU(),
            fm.Linear(3),
        ],
        (19, 17, 2),
    ),
}


def module(layer: Any, shape: tuple[int, ...]) -> nn.Module:
    """The module of PyTorch's that computes a layer on samples of `shape`."""
    size, image = shape[-1], len(shape) == 3
    match layer:
        case fm.Conv2d():
            return nn.Conv2d(size, layer.channels, layer.kernel, layer.stride, layer.padding, bias=layer.bias)
        case fm.Linear():
            return nn.Linear(size, layer.outputs)
        case fm.BatchNorm() | fm.Affine():
            return nn.BatchNorm2d(size) if image else nn.BatchNorm1d(size)
        case fm.LayerNorm():
            return nn.GroupNorm(1, size) if image else nn.LayerNorm(size)
        case fm.MaxPool2d():
            return nn.MaxPool2d(layer.size)
        case fm.GlobalMeanPool():
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        case fm.Flatten() | fm.ReLU() | fm.Tanh() | fm.Softplus():
            return getattr(nn, type(layer).__name__)()
    raise TypeError(f"{layer} has no module.")


def sequential(net: fm.Network, seed: int = 0) -> nn.Sequential:
    """The network with random weights, scales, shifts and running statistics; Affine is a batch norm in eval()."""
    torch.manual_seed(seed)
    made = nn.Sequential(*(module(layer, shape) for layer, shape in zip(net.layers, net.shapes, strict=False)))
    for layer, part in zip(net.layers, made, strict=True):
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm):
            with torch.no_grad():
                for tensor in part.state_dict().values():
                    if tensor.is_floating_point():
                        tensor += 0.5 * torch.rand_like(tensor)
        part.train(not isinstance(layer, fm.Affine))
    return made


class Difference(NamedTuple):
    """By how much of the largest output the outputs of the same samples differ."""

    exact: float  # ours and PyTorch's, computed in float64
    float32: float  # likewise in float32
    ours: float  # ours in float32 and in float64
    torch: float  # PyTorch's


def difference(net: fm.Network, theta: Any, made: nn.Sequential, device: str) -> Difference:
    """Between ours and the module's outputs of 25 samples."""
    x = np.random.default_rng(0).normal(size=(SAMPLES, *net.input_shape)).astype(np.float32)
    first = torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1) if x.ndim == 4 else x))
    with torch.no_grad():  # a copy, for a batch norm in training moves its running statistics
        theirs, exact = deepcopy(made)(first).numpy(), deepcopy(made).double()(first.double()).numpy()
    ours, wide = (net.predict(theta.astype(dtype), x, device) for dtype in ("float32", "float64"))
    largest = np.abs(exact).max()
    pairs = (wide, exact), (ours, theirs), (ours, wide), (theirs, exact)
    return Difference(*(float(np.abs(a - b).max() / largest) for a, b in pairs))


def differences(net: fm.Network, device: str = "cpu") -> dict[str, Difference]:
    """Of a module's weights taken here, and of our parameters given to the module."""
    made = sequential(net)
    taken = difference(net, fm.from_state_dict(net, made.state_dict()), made, device)
    theta = net.init(1) + np.float32(0.1) * np.random.default_rng(1).normal(size=net.parameter_count).astype("float32")
    state = fm.to_state_dict(net, theta, like=made.state_dict())
    made.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()}, strict=True)
    return {"taken": taken, "given": difference(net, theta, made, device)}


def main() -> None:
    """Print a table; end with an error where the same float32 weights differ by more than 1e-6 in float64."""
    print(f"fastmeta {fm.__version__}, torch {torch.__version__}, numpy {np.__version__}, {SAMPLES} samples")
    print(f"{'':36}{'':11}{'in float64':>12}{'in float32':>12}   rounding of float32")
    print(f"{'network':20}{'device':8}{'weights':8}{'parameters':>11}{'':24}{'ours':>10}{'PyTorch':>10}")
    worst = 0.0
    for name, net in NETWORKS.items():
        for device in ("cpu", "numpy"):
            for how, found in differences(net, device).items():
                worst = max(worst, found.exact)
                print(
                    f"{name:20}{device:8}{how:8}{net.parameter_count:11,}{found.exact:12.1e}{found.float32:12.1e}"
                    f"{found.ours:10.1e}{found.torch:10.1e}"
                )
    print(f"largest difference of the same float32 weights, computed in float64: {worst:.1e}")
    if worst > 1e-6:
        raise SystemExit("more than 1e-6")


if __name__ == "__main__":
    main()
