"""Jobs of layers without parameters, one thread a value or a window: activations and pools; see elementwise.cuh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastmeta_kernels.cuda.layout.network import Layer
from fastmeta_kernels.cuda.layout.places import Places, Sets
from fastmeta_kernels.cuda.layout.recording import struct

THREADS = 256


@dataclass(frozen=True)
class Activation:
    """y = f(x), by its name in elementwise.cuh."""

    name: str

    def forward(self, sets: Sets, layer: Layer, at: Places) -> None:
        """y = f(x)."""
        self._job(sets, "activate", layer, x=at.x, result=at.y)

    def backward(self, sets: Sets, layer: Layer, at: Places) -> None:
        """dx = f'(x) dy."""
        self._job(sets, "activate_slope", layer, x=at.x, dy=at.dy, result=at.dx, mask=at.mask)

    def forward_tangent(self, sets: Sets, layer: Layer, at: Places) -> None:
        """y_dot = f'(x) x_dot."""
        self._job(sets, "activate_slope", layer, x=at.x, dy=at.x_dot, result=at.y_dot)

    def backward_tangent(self, sets: Sets, layer: Layer, at: Places) -> None:
        """dx_dot = f''(x) x_dot dy + f'(x) dy_dot."""
        members = {"x": at.x, "x_dot": at.x_dot, "dy": at.dy, "dy_dot": at.dy_dot}
        self._job(sets, "activate_backward_tangent", layer, **members, result=at.dx_dot, mask=at.mask)

    def _job(self, sets: Sets, kernel: str, layer: Layer, **members: Any) -> None:
        _record(sets, f"{kernel}<T, {self.name}>", layer, layer.h * layer.w, **members)


class MaxPool:
    """The maximum of each window; both tangents are where the maximum is."""

    def forward(self, sets: Sets, layer: Layer, at: Places) -> None:
        """y = max x."""
        _record(sets, "max_pool<T>", layer, layer.out_h * layer.out_w, x=at.x, result=at.y)

    def backward(self, sets: Sets, layer: Layer, at: Places) -> None:
        """dx = dy at the maximum; a thread writes a window, whole or not."""
        members = {"x": at.x, "dy": at.dy, "result": at.dx, "mask": at.mask}
        _record(sets, "max_pool_backward<T>", layer, self._windows(layer), **members)

    def forward_tangent(self, sets: Sets, layer: Layer, at: Places) -> None:
        """y_dot = x_dot at the maximum."""
        members = {"x": at.x, "x_dot": at.x_dot, "result": at.y_dot}
        _record(sets, "max_pool<T>", layer, layer.out_h * layer.out_w, **members)

    def backward_tangent(self, sets: Sets, layer: Layer, at: Places) -> None:
        """dx_dot = dy_dot at the maximum."""
        members = {"x": at.x, "dy": at.dy_dot, "result": at.dx_dot, "mask": at.mask}
        _record(sets, "max_pool_backward<T>", layer, self._windows(layer), **members)

    @staticmethod
    def _windows(layer: Layer) -> int:
        return -(-layer.h // layer.kernel) * -(-layer.w // layer.kernel)


class MeanPool:
    """The mean over an image: linear, so both tangents pass as the values pass."""

    def forward(self, sets: Sets, layer: Layer, at: Places) -> None:
        """y = mean of x."""
        _record(sets, "mean_pool<T>", layer, 1, x=at.x, result=at.y)

    def backward(self, sets: Sets, layer: Layer, at: Places) -> None:
        """dx = dy / (H W)."""
        members = {"x": at.x, "dy": at.dy, "result": at.dx, "mask": at.mask}
        _record(sets, "mean_pool_backward<T>", layer, layer.h * layer.w, **members)

    def forward_tangent(self, sets: Sets, layer: Layer, at: Places) -> None:
        """y_dot = mean of x_dot."""
        _record(sets, "mean_pool<T>", layer, 1, x=at.x_dot, result=at.y_dot)

    def backward_tangent(self, sets: Sets, layer: Layer, at: Places) -> None:
        """dx_dot = dy_dot / (H W)."""
        members = {"x": at.x, "dy": at.dy_dot, "result": at.dx_dot, "mask": at.mask}
        _record(sets, "mean_pool_backward<T>", layer, layer.h * layer.w, **members)


def _record(sets: Sets, kernel: str, layer: Layer, places: int, **members: Any) -> None:
    """A thread for each channel of `places` places of each image."""
    sizes = {"h": layer.h, "w": layer.w, "c": layer.c, "out_h": layer.out_h, "out_w": layer.out_w}
    job = struct("Elementwise", samples=sets.samples, kernel=layer.kernel, **sizes, **members)
    sets.recording.job(kernel, -(-sets.samples * places * layer.c // THREADS), job)
