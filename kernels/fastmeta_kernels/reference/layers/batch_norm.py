"""Batch norm over the samples (and pixels) at hand: x (T, N, C) or (T, N, H, W, C), scale and shift (T, C).

mean u: over N (H, W) of each task and channel; the rest is what every norm does.
"""

from __future__ import annotations

from fastmeta_kernels.reference.layers.normalisation import Normalisation

NORM = Normalisation(lambda axes: tuple(range(1, axes - 1)))
forward, backward = NORM.forward, NORM.backward
forward_tangent, backward_tangent = NORM.forward_tangent, NORM.backward_tangent
