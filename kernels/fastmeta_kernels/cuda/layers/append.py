"""Jobs of learned values behind the features of every sample, one thread a value; see append.cuh."""

from __future__ import annotations

from typing import Any

from fastmeta_kernels.cuda.layers.elementwise import THREADS
from fastmeta_kernels.cuda.layout.network import Layer
from fastmeta_kernels.cuda.layout.places import Places, Sets
from fastmeta_kernels.cuda.layout.recording import NONE, Batched, struct


def forward(sets: Sets, layer: Layer, at: Places) -> None:
    """y = [x, values]."""
    _job(sets, layer, "append", _threads(sets, layer.out_c), x=at.x, values=at.weight, result=at.y)


def forward_tangent(sets: Sets, layer: Layer, at: Places) -> None:
    """y_dot = [x_dot, values_dot]."""
    _job(sets, layer, "append", _threads(sets, layer.out_c), x=at.x_dot, values=at.weight_dot, result=at.y_dot)


def backward(sets: Sets, layer: Layer, at: Places) -> None:
    """dvalues = sum over samples of dy behind x, dx = dy before it."""
    _back(sets, layer, at, at.dy, at.dx)


def backward_tangent(sets: Sets, layer: Layer, at: Places) -> None:
    """The same of dy_dot: the layer is linear."""
    _back(sets, layer, at, at.dy_dot, at.dx_dot)


def _back(sets: Sets, layer: Layer, at: Places, dy: Batched, dx: Batched) -> None:
    _job(sets, layer, "append_gradient", layer.out_c - layer.c, dy=dy, result=at.dweight)
    if dx != NONE:
        _job(sets, layer, "append_backward", _threads(sets, layer.c), dy=dy, result=dx, mask=at.mask)


def _threads(sets: Sets, channels: int) -> int:
    """Blocks of a thread for each of so many values of each sample."""
    return -(-sets.samples * channels // THREADS)


def _job(sets: Sets, layer: Layer, kernel: str, blocks: int, **members: Any) -> None:
    sizes = {"samples": sets.samples, "inputs": layer.c, "outputs": layer.out_c}
    sets.recording.job(f"{kernel}<T>", blocks, struct("Append", **sizes, **members))
