"""How far adaptation moves what each layer computes: linear CKA and CCA of its outputs before and after.

Kornblith et al. 2019, arXiv 1905.00414, equation 4 (CKA); Raghu et al. 2020, arXiv 1909.09157, figure 2.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta import inputs
from fastmeta.floating import quiet
from fastmeta.networks.network import Network

Array = NDArray[Any]


@dataclass(frozen=True)
class Similarity:
    """Of each layer, means over tasks; 1 where adaptation changed nothing that a linear map could not undo."""

    layers: tuple[str, ...]
    cka: Array  # (L,)
    cca: Array  # (L,): mean canonical correlation; NaN where a layer has too many features for the samples

    def table(self) -> str:
        """One line a layer."""
        width = max(5, *(len(name) for name in self.layers))
        rows = zip(self.layers, self.cka, self.cca, strict=True)
        return "\n".join(
            [f"{'layer':{width}}    CKA    CCA", *(f"{n:{width}}  {a:5.3f}  {b:5.3f}" for n, a, b in rows)]
        )

    __str__ = table

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Write a PNG with a bar a layer. Raises ModuleNotFoundError without Matplotlib."""
        from fastmeta.lab import pictures

        pictures.bars(os.fspath(path), self.layers, {"CKA": self.cka, "CCA": self.cca}, "similarity before and after")


@quiet
def similarity(net: Network, theta: Array, phi: Array, x: Array) -> Similarity:
    """Linear CKA and CCA of every layer's outputs on x, with theta (P,) and with phi, (P,) or (T, P).

    x (N, ...) or (T, N, ...); features are the N samples' outputs, an image's flattened. CCA needs N > 2 features.

    >>> from fastmeta import MLP, lab
    >>> import numpy as np
    >>> net, x = MLP((2, 8, 3)), np.random.default_rng(0).normal(size=(50, 2))
    >>> lab.similarity(net, net.init(0), net.init(0), x).cka.round(6).tolist()
    [1.0, 1.0, 1.0]
    """
    from fastmeta_kernels.reference import network as reference_network

    theta = inputs.parameters(net, inputs.array("theta", theta).astype(np.float64))
    samples = inputs.samples(net, x, np.float64)
    phi = inputs.parameters(
        net, inputs.array("phi", phi).astype(np.float64), None if np.ndim(phi) == 1 else len(samples), "phi"
    )
    before = reference_network.forward(net.table, np.atleast_2d(theta), samples)[1:]
    after = reference_network.forward(net.table, np.atleast_2d(phi), samples)[1:]
    names = tuple(f"{i + 1} {type(layer).__name__}" for i, layer in enumerate(net.layers))
    pairs = [(_centred(a), _centred(b)) for a, b in zip(before, after, strict=True)]
    cka = [np.mean([linear_cka(p, q) for p, q in zip(a, b, strict=True)]) for a, b in pairs]
    cca = [np.mean([mean_cca(p, q) for p, q in zip(a, b, strict=True)]) for a, b in pairs]
    return Similarity(names, np.array(cka), np.array(cca))


@quiet
def linear_cka(x: Array, y: Array) -> float:
    """|y^T x|^2 / (|x^T x| |y^T y|) of centred features (N, F): 1 for a rotation and a scale. NaN for constants."""
    kernel_x, kernel_y = x @ x.T, y @ y.T
    norms = np.linalg.norm(kernel_x) * np.linalg.norm(kernel_y)
    return float((kernel_x * kernel_y).sum() / norms) if norms else float("nan")


@quiet
def mean_cca(x: Array, y: Array) -> float:
    """Mean canonical correlation of centred features (N, F): 1 for any linear map. NaN unless N > 2 F."""
    if len(x) <= 2 * x.shape[1] or not (x.any() and y.any()):
        return float("nan")
    correlations = np.linalg.svd(_span(x).T @ _span(y), compute_uv=False)
    return float(np.minimum(correlations, 1.0).mean())


def _span(x: Array) -> Array:
    """Orthonormal columns that span those of x."""
    columns, sizes, _ = np.linalg.svd(x, full_matrices=False)
    return np.asarray(columns[:, sizes > 1e-10 * sizes[0]])


def _centred(outputs: Array) -> Array:
    flat = outputs.reshape(*outputs.shape[:2], -1)  # (T, N, F)
    return np.asarray(flat - flat.mean(axis=1, keepdims=True))
