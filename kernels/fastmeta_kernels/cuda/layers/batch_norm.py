"""Jobs of batch norm and, as a batch norm with statistics that nothing moves, of affine layers; see batch_norm.cuh."""

from __future__ import annotations

from typing import Any

from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.cuda.layers.products import FULL
from fastmeta_kernels.cuda.layout.network import Layer
from fastmeta_kernels.cuda.layout.places import Places, Sets
from fastmeta_kernels.cuda.layout.recording import struct

WIDTH, SUMS = 16, 5  # as in batch_norm.cuh
WHOLE, SUMS_ONLY, APPLY = range(3)
CHUNK = 512  # fewest rows of a chunk


def forward(sets: Sets, layer: Layer, at: Places) -> None:
    """y = scale x_hat + shift, and the statistics."""
    members = {"x": at.x, "scale": at.weight, "shift": at.bias, "result": at.y, "rectified": layer.relu}
    _job(sets, "norm_forward", layer, statistics=at.statistics, **members)


def backward(sets: Sets, layer: Layer, at: Places) -> None:
    """dx, dscale and dshift."""
    members = {"x": at.x, "dy": at.dy, "scale": at.weight, "result": at.dx, "mask": at.mask}
    _job(sets, "norm_backward", layer, statistics=at.statistics, dscale=at.dweight, dshift=at.dbias, **members)


def forward_tangent(sets: Sets, layer: Layer, at: Places) -> None:
    """y_dot."""
    members = {"x": at.x, "x_dot": at.x_dot, "mask": at.y_mask, "result": at.y_dot}
    members |= {"scale": at.weight, "scale_dot": at.weight_dot, "shift_dot": at.bias_dot}
    _job(sets, "norm_forward_tangent", layer, statistics=at.statistics, tangents=at.tangents, **members)


def backward_tangent(sets: Sets, layer: Layer, at: Places) -> None:
    """dx_dot, dscale_dot and dshift_dot."""
    members = {"x": at.x, "x_dot": at.x_dot, "dy": at.dy, "dy_dot": at.dy_dot}
    members |= {"scale": at.weight, "scale_dot": at.weight_dot}
    members |= {"result": at.dx_dot, "dscale": at.dweight, "dshift": at.dbias, "mask": at.mask}
    _job(sets, "norm_backward_tangent", layer, statistics=at.statistics, tangents=at.tangents, **members)


def _job(sets: Sets, kernel: str, layer: Layer, **members: Any) -> None:
    """One job or, where rows are many, one that leaves each chunk's sums and one that adds them up."""
    rows, groups = sets.samples * layer.h * layer.w, -(-layer.c // WIDTH)
    chunks = max(1, min(-(-FULL // (sets.tasks * groups)), rows // CHUNK))
    sizes = {"rows": rows, "channels": layer.c, "groups": groups, "chunks": chunks}
    sizes["fixed"] = layer.kind == lt.AFFINE
    job = struct("BatchNorm", epsilon=lt.BATCH_NORM_EPSILON, **sizes, **members)
    if chunks > 1:
        job["partial"] = sets.recording.scratch(chunks * SUMS * layer.c)
    for phase in (SUMS_ONLY, APPLY) if chunks > 1 else (WHOLE,):
        job = job.copy()
        job["phase"] = phase
        sets.recording.job(f"{kernel}<T>", groups * chunks, job)
