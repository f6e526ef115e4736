"""Jobs of layer norm: a block a sample or, for the gradients of scale and shift, some channels; see layer_norm.cuh."""

from __future__ import annotations

from typing import Any

from fastmeta_kernels.cuda.layout.network import Layer
from fastmeta_kernels.cuda.layout.places import Places, Sets
from fastmeta_kernels.cuda.layout.recording import NONE, struct
from fastmeta_kernels.layer_table import BATCH_NORM_EPSILON

WIDTH = 16  # SCALE_WIDTH in layer_norm.cuh


def forward(sets: Sets, layer: Layer, at: Places) -> None:
    """y = scale x_hat + shift, and the statistics."""
    _job(sets, "layer_norm", layer, at, result=at.y, scale=at.weight, shift=at.bias)


def forward_tangent(sets: Sets, layer: Layer, at: Places) -> None:
    """y_dot."""
    scales = {"scale": at.weight, "scale_dot": at.weight_dot, "shift_dot": at.bias_dot}
    _job(sets, "layer_norm_tangent", layer, at, x_dot=at.x_dot, tangents=at.tangents, result=at.y_dot, **scales)


def backward(sets: Sets, layer: Layer, at: Places) -> None:
    """dscale, dshift and dx."""
    _gradient(sets, layer, at, dy=at.dy)
    if at.dx != NONE:
        _job(sets, "layer_norm_backward", layer, at, dy=at.dy, scale=at.weight, result=at.dx, mask=at.mask)


def backward_tangent(sets: Sets, layer: Layer, at: Places) -> None:
    """Their tangents."""
    values = {"x_dot": at.x_dot, "dy": at.dy, "dy_dot": at.dy_dot, "tangents": at.tangents}
    _gradient(sets, layer, at, **values)
    if at.dx_dot != NONE:
        scales = {"scale": at.weight, "scale_dot": at.weight_dot}
        _job(sets, "layer_norm_backward_tangent", layer, at, **values, **scales, result=at.dx_dot, mask=at.mask)


def _gradient(sets: Sets, layer: Layer, at: Places, **members: Any) -> None:
    job = _struct(sets, layer, at, dscale=at.dweight, dshift=at.dbias, **members)
    sets.recording.job("layer_norm_gradient<T>", -(-layer.c // WIDTH), job)


def _job(sets: Sets, kernel: str, layer: Layer, at: Places, **members: Any) -> None:
    sets.recording.job(f"{kernel}<T>", sets.samples, _struct(sets, layer, at, **members))


def _struct(sets: Sets, layer: Layer, at: Places, **members: Any) -> Any:
    sizes = {"samples": sets.samples, "pixels": layer.h * layer.w, "channels": layer.c}
    return struct("LayerNorm", x=at.x, statistics=at.statistics, epsilon=BATCH_NORM_EPSILON, **sizes, **members)
