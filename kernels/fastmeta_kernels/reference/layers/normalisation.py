"""What batch norm and layer norm share: x_hat = r (x - mean x), r = 1 / sqrt(biased variance + eps), its derivatives.

The Jacobian of x_hat is J u = r (u - mean u - x_hat mean(x_hat u)); it is symmetric. What a mean is over differs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fastmeta_kernels.contract import Array
from fastmeta_kernels.layer_table import BATCH_NORM_EPSILON


class Normalisation(NamedTuple):
    """The four functions of a layer whose means are over `axes(x.ndim)` of x; scale and shift (T, C)."""

    axes: Callable[[int], tuple[int, ...]]

    def forward(self, x: Array, scale: Array, shift: Array) -> Array:
        """y = scale x_hat + shift. Shape of x."""
        x_hat, _ = self._normalise(x)
        return per_channel(scale, x) * x_hat + per_channel(shift, x)

    def backward(self, dy: Array, x: Array, scale: Array, need_dx: bool = True) -> tuple[Array | None, Array, Array]:
        """dx = J(scale dy), dscale = sum dy x_hat, dshift = sum dy. Shapes of x, (T, C), (T, C)."""
        x_hat, r = self._normalise(x)
        dx = self._jacobian(per_channel(scale, x) * dy, x_hat, r) if need_dx else None
        return dx, sum_channels(dy * x_hat), sum_channels(dy)

    def forward_tangent(self, x: Array, x_dot: Array | None, scale: Array, scale_dot: Array, shift_dot: Array) -> Array:
        """y_dot = scale J(x_dot) + scale_dot x_hat + shift_dot. Shape of x; x_dot None means zero."""
        x_hat, r = self._normalise(x)
        y_dot = per_channel(scale_dot, x) * x_hat + per_channel(shift_dot, x)
        if x_dot is not None:
            y_dot = y_dot + per_channel(scale, x) * self._jacobian(x_dot, x_hat, r)
        return y_dot

    def backward_tangent(
        self,
        dy: Array,
        dy_dot: Array,
        x: Array,
        x_dot: Array | None,
        scale: Array,
        scale_dot: Array,
        need_dx: bool = True,
    ) -> tuple[Array | None, Array, Array]:
        """g = scale dy, dx_dot = J g_dot + r_dot / r J g - r (x_hat_dot mean(x_hat g) + x_hat mean(x_hat_dot g)).

        r_dot / r = -r mean(x_hat x_dot), x_hat_dot = J x_dot, dscale_dot = sum(dy_dot x_hat + dy x_hat_dot).
        """
        x_hat, r = self._normalise(x)
        g_dot = per_channel(scale, x) * dy_dot + per_channel(scale_dot, x) * dy
        if x_dot is None:
            dx_dot = self._jacobian(g_dot, x_hat, r) if need_dx else None
            return dx_dot, sum_channels(dy_dot * x_hat), sum_channels(dy_dot)
        x_hat_dot = self._jacobian(x_dot, x_hat, r)
        dx_dot = None
        if need_dx:
            g = per_channel(scale, x) * dy
            dx_dot = self._jacobian(g_dot, x_hat, r) - r * self._mean(x_hat * x_dot) * self._jacobian(g, x_hat, r)
            dx_dot -= r * (x_hat_dot * self._mean(x_hat * g) + x_hat * self._mean(x_hat_dot * g))
        return dx_dot, sum_channels(dy_dot * x_hat + dy * x_hat_dot), sum_channels(dy_dot)

    def _normalise(self, x: Array) -> tuple[Array, Array]:
        axes = self.axes(x.ndim)
        first = tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(x.ndim))
        shifted = x - x[first]  # constants are their own mean to the last bit
        centred = shifted - self._mean(shifted)
        r = 1.0 / np.sqrt(self._mean(centred * centred) + BATCH_NORM_EPSILON)
        r[r == 0] = np.nan  # an overflow must not look like a constant
        return centred * r, r

    def _jacobian(self, u: Array, x_hat: Array, r: Array) -> Array:
        return np.asarray(r * (u - self._mean(u) - x_hat * self._mean(x_hat * u)))

    def _mean(self, u: Array) -> Array:
        return np.asarray(u.mean(axis=self.axes(u.ndim), keepdims=True))


def sum_channels(u: Array) -> Array:
    """Sums over N (H, W). (T, C)."""
    return np.asarray(u.sum(axis=tuple(range(1, u.ndim - 1))))  # (T, C)


def per_channel(a: Array, x: Array) -> Array:
    """a (T, C) as it broadcasts over x. (T, 1, .., C)."""
    return a.reshape(a.shape[0], *(1,) * (x.ndim - 2), a.shape[-1])
