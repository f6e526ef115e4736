"""Networks as data: frozen descriptions compiled to an integer layer table over one flat `theta`."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from fastmeta import checks, inputs, memory
from fastmeta import device as devices
from fastmeta.floating import quiet
from fastmeta.networks import initial
from fastmeta.networks.layers import LAYERS, Append, Layer, Linear, Shape
from fastmeta.record import Record
from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.contract import Array


class Network(Record):
    """Any sequence of layers over samples of `input_shape`, (F,) or (H, W, C).

    scheme: how its first weights are drawn, see `init`.

    Raises ValueError where a layer does not fit on what comes before it, or nothing has parameters.

    >>> from fastmeta import Conv2d, GlobalMeanPool, Linear, ReLU
    >>> net = Network([Conv2d(8), ReLU(), GlobalMeanPool(), Linear(5)], input_shape=(28, 28, 1))
    >>> net.init(seed=0).shape
    (125,)
    """

    layers: Sequence[Layer]
    input_shape: Shape
    description: str = ""
    scheme: str = "glorot_uniform"

    def __post_init__(self) -> None:
        checks.choice("scheme", self.scheme, initial.INITIALIZATIONS)
        checks.settle(self, layers=tuple(self.layers))
        shape = (self.input_shape,) if isinstance(self.input_shape, numbers.Integral) else tuple(self.input_shape)
        if len(shape) not in (1, 3):
            raise ValueError(f"input_shape={shape} must be (features,) or (height, width, channels).")
        checks.settle(self, input_shape=tuple(checks.integer("input_shape", n, 1) for n in shape))
        for layer in self.layers:
            if not isinstance(layer, Layer) or type(layer) not in LAYERS.values():
                raise TypeError(f"layers must be fastmeta layers such as Linear(40); got {layer!r}.")
        if len(self.shapes[-1]) != 1:
            raise ValueError(
                f"{self} ends with {self.shapes[-1]} a sample. Add Flatten() or GlobalMeanPool() at the end."
            )
        if self.parameter_count == 0:
            raise ValueError(f"{self} has no parameters. Add a Linear or Conv2d layer.")

    def _compared(self) -> tuple[Any, ...]:
        return self.layers, self.input_shape

    def __str__(self) -> str:
        return self.description or f"Network({list(self.layers)}, input_shape={self.input_shape})"

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Shape of one sample before the first layer and behind each."""
        shapes = [self.input_shape]
        for layer in self.layers:
            shapes.append(layer.output_shape(shapes[-1]))
        return tuple(shapes)

    @cached_property
    def table(self) -> lt.Table:
        """(L, FIELDS) int64: the network as the kernels read it."""
        rows = np.zeros((len(self.layers), lt.FIELDS), np.int64)
        offset = 0
        for row, layer, before, after in zip(rows, self.layers, self.shapes, self.shapes[1:], strict=False):
            row[lt.KIND] = layer.kind
            row[lt.IN_H : lt.IN_C + 1] = before if len(before) == 3 else (1, 1, before[0])
            row[lt.OUT_H : lt.OUT_C + 1] = after if len(after) == 3 else (1, 1, after[0])
            row[lt.KERNEL : lt.PADDING + 1] = layer.window
            row[lt.WEIGHT : lt.BIAS + 1] = -1
            for place, shape in zip((lt.WEIGHT, lt.BIAS), layer.parameters(before).values(), strict=False):
                row[place] = offset
                offset += math.prod(shape)
        rows.flags.writeable = False
        return rows

    @cached_property
    def parameter_count(self) -> int:
        """P, the length of theta."""
        return lt.parameter_count(self.table)

    @cached_property
    def parameter_shapes(self) -> dict[str, Shape]:
        """Name and shape of each parameter array, in the order of theta."""
        shapes: dict[str, Shape] = {}
        seen: dict[str, int] = {}
        for layer, before in zip(self.layers, self.shapes, strict=False):
            seen[layer.noun] = seen.get(layer.noun, 0) + 1
            own = layer.parameters(before)
            shapes |= {f"{layer.noun}{seen[layer.noun]}.{name}": shape for name, shape in own.items()}
        return shapes

    @cached_property
    def outputs(self) -> int:
        """O, the number of outputs of one sample."""
        return self.shapes[-1][0]

    @cached_property
    def head(self) -> tuple[int, int]:
        """theta[start:stop] of the last linear layer and what is appended to it; ValueError where others follow it."""
        linear = [i for i, layer in enumerate(self.layers) if isinstance(layer, Linear)]
        start = int(self.table[linear[-1], lt.WEIGHT]) if linear else 0
        if not linear or any(layer.noun not in ("", "append") for layer in self.layers[linear[-1] + 1 :]):
            raise ValueError(f'adapt="head" needs a network whose last layer with parameters is Linear; got {self}.')
        return start, self.parameter_count

    @quiet
    def init(self, seed: int = 0, dtype: str = "float32", scheme: str | None = None) -> Array:
        """Random theta (P,): weights by `scheme`, biases and shifts 0, scales 1. Seeded; float32 and float64 agree.

        Schemes, by default the network's own: glorot_uniform and glorot_normal (Glorot & Bengio 2010), he_uniform and
        he_normal (He et al. 2015), lecun_normal (LeCun et al. 1998), truncated_normal (deviation 0.01 cut at two
        deviations: the MAML code's MLP), identity (each output is the input of its number, nothing random: where the
        features are good already).
        """
        scheme = self.scheme if scheme is None else checks.choice("scheme", scheme, initial.INITIALIZATIONS)
        checks.choice("dtype", str(np.dtype(dtype)), ("float32", "float64"))
        rng = np.random.default_rng(checks.integer("seed", seed, 0))
        theta = np.zeros(self.parameter_count)
        starts = iter([layer.start for layer in self.layers if isinstance(layer, Append)])
        for name, view in self.views(theta).items():
            view[...] = next(starts) if name.startswith("append") else initial.values(rng, scheme, name, view.shape)
        return theta.astype(dtype)

    def views(self, theta: Array) -> dict[str, Array]:
        """Writable views of theta (..., P) by name, in its order: "linear1.weight" (..., I, O), ..."""
        theta = checks.array("theta", theta)
        if theta.ndim < 1 or theta.shape[-1] != self.parameter_count:
            raise ValueError(f"theta has shape {theta.shape} but {self} has {self.parameter_count} parameters.")
        views, offset, lead = {}, 0, theta.shape[:-1]
        for name, shape in self.parameter_shapes.items():
            size = math.prod(shape)
            views[name] = theta[..., offset : offset + size].reshape(lead + shape)
            offset += size
        return views

    def predict(self, theta: Array, x: Array, device: str = "cpu") -> Array:
        """Outputs (N, O) of x (N, ...) with theta (P,); (T, N, O) of x (T, N, ...) with theta (P,) or (T, P)."""
        return predict(self, theta, x, device=device)

    def to_dict(self) -> dict[str, Any]:
        """The architecture as plain JSON values; `from_dict` is its inverse."""
        return {
            "input_shape": list(self.input_shape),
            "layers": [{"layer": type(layer).__name__} | layer._asdict() for layer in self.layers],
            "description": self.description,
            "scheme": self.scheme,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Network:
        """A network from what `to_dict` gave; ValueError where a layer is unknown."""
        made = []
        for entry in data["layers"]:
            arguments = dict(entry)
            kind = checks.choice("layer", arguments.pop("layer"), LAYERS)
            made.append(LAYERS[kind](**arguments))
        return cls(made, tuple(data["input_shape"]), data.get("description", ""), data.get("scheme", "glorot_uniform"))


@quiet
def predict(net: Network, theta: Array, x: Array, *, device: str = "cpu") -> Array:
    """Outputs (N, O) or (T, N, O). Batch norm uses the statistics of the N samples at hand.

    Raises DivergenceError where an output is not finite.
    """
    x = np.atleast_1d(inputs.array("x", x, device))
    single = inputs.is_single(net, x)
    theta = inputs.parameters(net, theta, None if single else len(x), device=device)
    with memory.counted("samples", x.size // math.prod(net.input_shape)):
        samples = inputs.samples(net, x, theta.dtype, device=device)
        outputs = devices.backend(device).predict(net.table, theta, samples)
    if not checks.all_finite(outputs):
        task, sample, output = np.argwhere(~np.isfinite(outputs))[0]
        place = f"sample {sample}" if single else f"sample {sample} of task {task}"
        raise checks.DivergenceError(
            f"output {output} of {place} is {outputs[task, sample, output]}: theta or x are too large "
            f"for {outputs.dtype}. {checks.scaling('Scale x', outputs)}"
        )
    return outputs[0] if single else outputs
