"""PyTorch's state_dict as theta, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastmeta import inputs
from fastmeta.floating import quiet
from fastmeta.networks.layers import Affine
from fastmeta.networks.network import Network
from fastmeta.networks.torch_modules import COUNTER, STATISTICS, Module, matched, modules_of, named, read
from fastmeta_kernels.contract import Array
from fastmeta_kernels.layer_table import BATCH_NORM_EPSILON as EPSILON


@quiet
def from_state_dict(net: Network, state_dict: Mapping[str, Any], names: Sequence[str] | None = None) -> Array:
    """theta (P,) of what a PyTorch module of the same layers has learned; `to_state_dict` is the inverse.

    state_dict: arrays or tensors on the CPU. Its modules are taken in its order, which is that of the layers with
    parameters, whatever they are called; `names` says the order where the dict's is another. Linear and Conv2d are
    layers of the same names, BatchNorm a BatchNorm1d or 2d, whose running statistics are not used: batch norm is
    transductive here. Affine takes a batch norm with its running statistics (as in `eval()`, eps 1e-5), or without
    them a weight and a bias; LayerNorm a LayerNorm of vectors or a GroupNorm(1, C) of images; Append an entry "values".
    Float64 where all of it is, else float32.

    Raises ValueError that names each entry which is missing, left over or of another shape, or that is not finite;
    TypeError where one holds no floats.

    >>> from fastmeta import MLP
    >>> from_state_dict(MLP((2, 1)), {"0.weight": np.ones((1, 2)), "0.bias": np.zeros(1)})
    array([1., 1., 0.])
    """
    found = matched(net, read(state_dict), names)
    wide = all(values.dtype == np.float64 for _, _, own in found for leaf, values in own.items() if leaf != COUNTER)
    theta = np.empty(net.parameter_count, np.float64 if wide else np.float32)
    views = net.views(theta)
    for module, prefix, own in found:
        weight = {leaf: own[leaf] for leaf in module.entries}
        if isinstance(module.layer, Affine) and STATISTICS[0] in own:
            mean, deviation = _statistics(own, prefix)
            slope = weight["weight"] / deviation
            weight = {"weight": slope, "bias": weight["bias"] - slope * mean}
        for leaf, entry in module.entries.items():
            views[entry.name][...] = entry.taken(weight[leaf])
    return inputs.converted(theta, theta.dtype, "state_dict")


@quiet
def to_state_dict(
    net: Network, theta: Any, like: Mapping[str, Any] | None = None, names: Sequence[str] | None = None
) -> dict[str, Array]:
    """theta (P,) as the state_dict of a PyTorch module of the same layers, arrays in theta's dtype.

    like: the module's own state_dict, whose names, order and running statistics are kept. Without it the names are
    those of an nn.Sequential with a module for each layer, "0.weight", or `names`, one for each layer with parameters;
    Affine becomes a batch norm of mean 0 and variance 1. `torch.from_numpy` makes tensors of the arrays.

    Raises ValueError where theta does not fit, and as `from_state_dict` where `like` does not.

    >>> from fastmeta import MLP
    >>> to_state_dict(MLP((2, 1)), np.array([1.0, 2.0, 0.0]))
    {'0.weight': array([[1., 2.]]), '0.bias': array([0.])}
    """
    theta = inputs.parameters(net, theta, device="numpy")  # whose layers are all of them
    views = net.views(theta)
    made: dict[str, Array] = {}
    if like is None:
        modules = modules_of(net)
        prefixes = [f"{name}." for name in named(modules, names)]
        found = [
            (module, prefix, _plain(module, theta.dtype)) for module, prefix in zip(modules, prefixes, strict=True)
        ]
    else:
        found = matched(net, read(like), names)
        made = dict.fromkeys(like, theta)  # in its order
    for module, prefix, own in found:
        values = {leaf: entry.given(views[entry.name]) for leaf, entry in module.entries.items()}
        if isinstance(module.layer, Affine) and STATISTICS[0] in own:
            mean, deviation = _statistics(own, prefix)
            values = {"weight": values["weight"] * deviation, "bias": values["bias"] + values["weight"] * mean}
        for leaf, value in (values | own | values).items():
            made[prefix + leaf] = np.array(value, np.int64 if leaf == COUNTER else theta.dtype, order="C")
    return made


def _statistics(own: Mapping[str, Array], prefix: str) -> tuple[Array, Array]:
    """Mean and deviation (C,) float64 of a batch norm in `eval()`."""
    mean, variance = (own[leaf].astype(np.float64) for leaf in STATISTICS)
    if (variance < 0).any():
        raise ValueError(f'state_dict["{prefix}running_var"] must be at least 0; it reaches {variance.min():.3g}.')
    return mean, np.sqrt(variance + EPSILON)


def _plain(module: Module, dtype: Any) -> dict[str, Array]:
    """Statistics that change nothing, of a batch norm that stands for Affine."""
    if not isinstance(module.layer, Affine):
        return {}
    shape = module.shapes["weight"]
    mean, variance = np.zeros(shape, dtype), np.full(shape, 1 - EPSILON, dtype)
    return dict(zip(STATISTICS, (mean, variance), strict=True)) | {COUNTER: np.zeros((), np.int64)}
