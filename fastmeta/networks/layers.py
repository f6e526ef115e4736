"""The layers a network is made of: frozen descriptions that say what comes out for what goes in.

One file of more than 200 lines, because the layers are small and a reader looks for all of them here.
"""

from __future__ import annotations

from typing import ClassVar

from fastmeta import checks
from fastmeta.record import Record
from fastmeta_kernels import layer_table as lt

Shape = tuple[int, ...]  # (F,) or (H, W, C)


class Layer(Record):
    """One layer; `output_shape` gives the shape of a sample behind it or raises ValueError."""

    kind: ClassVar[int]  # its number in fastmeta_kernels.layer_table
    noun: ClassVar[str] = ""  # what its parameters are named after, "" where it has none

    @property
    def window(self) -> tuple[int, int, int]:
        """Size, stride and padding of what an output looks at; zeros where that is not to be said."""
        return 0, 0, 0

    @property
    def parameter_arrays(self) -> int:
        """How many parameter arrays it has: a weight or scale, and most often a bias or shift."""
        return 0 if not self.noun else 2 if getattr(self, "bias", True) else 1

    def parameters(self, shape: Shape) -> dict[str, Shape]:
        """Name and shape of its parameter arrays for an input of `shape`, in the order of theta."""
        return {}

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of one sample's output for an input of `shape`."""
        return shape


class Linear(Layer):
    """y = x W + b: weight (I, O), bias (O,). Takes vectors; put Flatten or GlobalMeanPool before it."""

    outputs: int
    kind: ClassVar[int] = lt.LINEAR
    noun: ClassVar[str] = "linear"

    def __post_init__(self) -> None:
        checks.settle(self, outputs=checks.integer("outputs", self.outputs, 1))

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 1:
            raise ValueError(f"Linear takes vectors but gets {_image(shape)}. Put Flatten() or GlobalMeanPool() first.")
        return (self.outputs,)

    def parameters(self, shape: Shape) -> dict[str, Shape]:
        return {"weight": (shape[0], self.outputs), "bias": (self.outputs,)}


class Conv2d(Layer):
    """Cross-correlation over images (H, W, I): weight (kernel, kernel, I, channels), and bias (channels,) if `bias`."""

    channels: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    bias: bool = True
    kind: ClassVar[int] = lt.CONVOLUTION
    noun: ClassVar[str] = "conv"

    def __post_init__(self) -> None:
        for name, least in (("channels", 1), ("kernel", 1), ("stride", 1), ("padding", 0)):
            checks.settle(self, **{name: checks.integer(name, getattr(self, name), least)})
        checks.settle(self, bias=checks.switch("bias", self.bias))
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel={self.kernel} must be odd.")
        if self.padding >= self.kernel:
            raise ValueError(f"padding={self.padding} must be smaller than kernel={self.kernel}.")

    def output_shape(self, shape: Shape) -> Shape:
        height, width, _ = _image_shape(self, shape)
        out = [(n + 2 * self.padding - self.kernel) // self.stride + 1 for n in (height, width)]
        if min(out) < 1:
            raise ValueError(
                f"Conv2d with kernel={self.kernel} and padding={self.padding} does not fit on {_image(shape)}. "
                "Use a smaller kernel, more padding or fewer downsampling layers."
            )
        return (out[0], out[1], self.channels)

    @property
    def window(self) -> tuple[int, int, int]:
        return self.kernel, self.stride, self.padding

    def parameters(self, shape: Shape) -> dict[str, Shape]:
        weight = {"weight": (self.kernel, self.kernel, shape[2], self.channels)}
        return weight | ({"bias": (self.channels,)} if self.bias else {})


class _Scaled(Layer):
    """A layer that has a scale (C,) and a shift (C,)."""

    def parameters(self, shape: Shape) -> dict[str, Shape]:
        return {"scale": shape[-1:], "shift": shape[-1:]}


class BatchNorm(_Scaled):
    """Normalises each channel by mean and biased variance of the batch at hand (eps 1e-5): scale (C,), shift (C,).

    Transductive, as in the published MAML: no running statistics; gradients flow through the statistics.
    """

    kind: ClassVar[int] = lt.BATCH_NORM
    noun: ClassVar[str] = "norm"


class Affine(_Scaled):
    """y = scale x + shift of each channel: scale (C,), shift (C,). What batch norm is with fixed statistics."""

    kind: ClassVar[int] = lt.AFFINE
    noun: ClassVar[str] = "affine"


class LayerNorm(_Scaled):
    """Normalises each sample by mean and biased variance of its values (eps 1e-5): scale (C,), shift (C,).

    Of images the statistics are over height, width and channels; scale and shift are each channel's. A sample's output
    does not depend on the others.
    """

    kind: ClassVar[int] = lt.LAYER_NORM
    noun: ClassVar[str] = "layer_norm"


class ReLU(Layer):
    """max(x, 0); its derivative at 0 is 0."""

    kind: ClassVar[int] = lt.RELU


class Tanh(Layer):
    """tanh(x)."""

    kind: ClassVar[int] = lt.TANH


class Softplus(Layer):
    """log(1 + exp(x))."""

    kind: ClassVar[int] = lt.SOFTPLUS


class MaxPool2d(Layer):
    """Maximum over size x size windows, stride size, the remainder dropped; ties go to the first in row order."""

    size: int = 2
    kind: ClassVar[int] = lt.MAX_POOL

    def __post_init__(self) -> None:
        checks.settle(self, size=checks.integer("size", self.size, 1))

    def output_shape(self, shape: Shape) -> Shape:
        height, width, channels = _image_shape(self, shape)
        if min(height, width) < self.size:
            raise ValueError(
                f"MaxPool2d({self.size}) does not fit on {_image(shape)}. Use fewer pools or larger images."
            )
        return (height // self.size, width // self.size, channels)

    @property
    def window(self) -> tuple[int, int, int]:
        return self.size, self.size, 0


class GlobalMeanPool(Layer):
    """Mean over height and width: (H, W, C) -> (C,)."""

    kind: ClassVar[int] = lt.GLOBAL_MEAN_POOL

    def output_shape(self, shape: Shape) -> Shape:
        return (_image_shape(self, shape)[2],)


class Flatten(Layer):
    """(H, W, C) -> (H * W * C,) in H, W, C order; a vector stays as it is."""

    kind: ClassVar[int] = lt.FLATTEN

    def output_shape(self, shape: Shape) -> Shape:
        size = 1
        for n in shape:
            size *= n
        return (size,)


class Append(Layer):
    """y = [x, values]: learned values (V,) behind a vector, the same for all samples; they begin at `start`.

    A policy's log standard deviations, for example.
    """

    values: int
    start: float = 0.0
    kind: ClassVar[int] = lt.APPEND
    noun: ClassVar[str] = "append"

    def __post_init__(self) -> None:
        checks.settle(self, values=checks.integer("values", self.values, 1), start=checks.real("start", self.start))

    @property
    def parameter_arrays(self) -> int:
        """One: the values."""
        return 1

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 1:
            raise ValueError(f"Append takes vectors but gets {_image(shape)}. Put Flatten() or GlobalMeanPool() first.")
        return (shape[0] + self.values,)

    def parameters(self, shape: Shape) -> dict[str, Shape]:
        return {"values": (self.values,)}


LAYERS: dict[str, type[Layer]] = {
    layer.__name__: layer
    for layer in (
        Linear,
        Conv2d,
        BatchNorm,
        Affine,
        LayerNorm,
        ReLU,
        Tanh,
        Softplus,
        MaxPool2d,
        GlobalMeanPool,
        Flatten,
        Append,
    )
}


def _image_shape(layer: Layer, shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise ValueError(f"{type(layer).__name__} takes images (H, W, C) but gets vectors of {shape[0]}.")
    return shape[0], shape[1], shape[2]


def _image(shape: Shape) -> str:
    return "images of " + " x ".join(map(str, shape)) if len(shape) == 3 else f"vectors of {shape[0]}"
