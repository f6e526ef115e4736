"""Layer norm: each sample by its own statistics: x (T, N, C) or (T, N, H, W, C), scale and shift (T, C).

mean u: over C (H, W, C) of each sample (arXiv 1607.06450); the rest is what every norm does.
"""

from __future__ import annotations

from fastmeta_kernels.reference.layers.normalisation import Normalisation

NORM = Normalisation(lambda axes: tuple(range(2, axes)))
forward, backward = NORM.forward, NORM.backward
forward_tangent, backward_tangent = NORM.forward_tangent, NORM.backward_tangent
