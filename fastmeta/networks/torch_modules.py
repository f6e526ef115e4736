"""Layers as modules of PyTorch's: kernels (O, I, kh, kw), weights (O, I), features in C, H, W order."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np

from fastmeta import checks, inputs
from fastmeta.networks.layers import Affine, Append, BatchNorm, Flatten, Layer, Linear, Shape
from fastmeta.networks.network import Network
from fastmeta_kernels.contract import Array

LEAVES = {"scale": "weight", "shift": "bias"}  # what PyTorch calls them; weight and bias are the same
STATISTICS, COUNTER = ("running_mean", "running_var"), "num_batches_tracked"

Given = dict[str, dict[str, Array]]  # module -> "weight", "bias", ... -> values


class Entry(NamedTuple):
    """A parameter array, and what it is in a state_dict."""

    name: str  # ours
    shape: Shape  # PyTorch's
    order: Array | None  # (I,) where each of PyTorch's features is among ours, where that differs

    def taken(self, values: Array) -> Array:
        """Ours of PyTorch's: (O, I, kh, kw) -> (kh, kw, I, O), (O, I) -> (I, O)."""
        values = values.transpose(2, 3, 1, 0) if values.ndim == 4 else values.T
        return values if self.order is None else values[np.argsort(self.order)]

    def given(self, values: Array) -> Array:
        """PyTorch's of ours."""
        values = values if self.order is None else values[self.order]
        return values.transpose(3, 2, 0, 1) if values.ndim == 4 else values.T


class Module(NamedTuple):
    """A layer with parameters as a module of PyTorch's."""

    place: int  # among all layers
    layer: Layer
    entries: dict[str, Entry]  # by their names in the module

    @property
    def shapes(self) -> dict[str, Shape]:
        """Of what it may have, by name."""
        shapes = {leaf: entry.shape for leaf, entry in self.entries.items()}
        if isinstance(self.layer, BatchNorm | Affine):
            shapes |= dict.fromkeys(STATISTICS, shapes["weight"]) | {COUNTER: ()}
        return shapes

    def needed(self, found: Mapping[str, Array]) -> list[str]:
        """What it must have: fixed statistics have both halves."""
        fixed = isinstance(self.layer, Affine) and not found.keys().isdisjoint(STATISTICS)
        return [*self.entries, *(STATISTICS if fixed else ())]


def modules_of(net: Network) -> list[Module]:
    """The layers with parameters, and in which order PyTorch's flattened features reach each."""
    modules: list[Module] = []
    names, order = iter(net.parameter_shapes), None
    for place, (layer, before) in enumerate(zip(net.layers, net.shapes, strict=False)):
        if isinstance(layer, Flatten) and len(before) == 3:
            order = np.arange(math.prod(before)).reshape(before).transpose(2, 0, 1).ravel()
        entries = {}
        for kind, shape in layer.parameters(before).items():
            wanted = (*shape[:1:-1], *shape[:2]) if len(shape) == 4 else shape[::-1]
            entries[LEAVES.get(kind, kind)] = Entry(next(names), wanted, None if kind in ("bias", "values") else order)
        if entries:
            modules.append(Module(place, layer, entries))
        if isinstance(layer, Append) and order is not None:
            order = np.append(order, len(order) + np.arange(layer.values))
        order = None if isinstance(layer, Linear) else order
    return modules


def read(state_dict: Mapping[str, Any]) -> Given:
    """Modules and their entries, in the order of the dict."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"state_dict must map names to arrays, as model.state_dict() does; got {type(state_dict)}.")
    found: Given = {}
    for key, value in state_dict.items():
        prefix, _, leaf = str(key).rpartition(".")
        values = inputs.array(f'state_dict["{key}"]', value)
        if leaf != COUNTER:
            if values.dtype.kind != "f":
                raise TypeError(f'state_dict["{key}"] of dtype {values.dtype} must be floats.')
            checks.finite(f'state_dict["{key}"]', values)
        found.setdefault(prefix, {})[leaf] = values
    return found


def named(modules: list[Module], names: Sequence[str] | None) -> list[str]:
    """One name a module: those given, or each layer's number."""
    if names is None:
        return [str(module.place) for module in modules]
    if len(set(names)) != len(modules) or len(names) != len(modules):
        layers = ", ".join(next(iter(module.entries.values())).name.split(".")[0] for module in modules)
        raise ValueError(f"names={tuple(names)} must be {len(modules)} different names, of {layers} in this order.")
    return list(names)


def matched(net: Network, given: Given, names: Sequence[str] | None) -> list[tuple[Module, str, dict[str, Array]]]:
    """Each module, the prefix of its entries, and these; ValueError that names all that do not fit."""
    modules, wrong = modules_of(net), []
    pairs = _in_order(modules, given) if names is None else _by_name(modules, given, named(modules, names))
    found = []
    for module, name in pairs:
        prefix = f"{name}." if name else ""
        own = given.get(name, {}) if name is not None else {}
        if module is None:
            wrong += [f'"{prefix}{leaf}" is left over' for leaf in own]
        elif name is None:
            wrong += [f"one for {entry.name}, {entry.shape}, is missing" for entry in module.entries.values()]
        else:
            shapes = module.shapes
            wrong += [f'"{prefix}{leaf}" is missing, {shapes[leaf]}' for leaf in module.needed(own) if leaf not in own]
            for leaf, values in own.items():
                what = f'"{prefix}{leaf}"' + (f" for {module.entries[leaf].name}" if leaf in module.entries else "")
                if leaf not in shapes:
                    wrong.append(f"{what} is left over")
                elif values.shape != shapes[leaf]:
                    wrong.append(f"{what} of shape {values.shape} must be {shapes[leaf]}")
            found.append((module, prefix, own))
    if wrong:
        raise ValueError(f"state_dict must hold what {net} has: {'; '.join(wrong)}.")
    return found


def _by_name(modules: list[Module], given: Given, names: list[str]) -> list[tuple[Module | None, str | None]]:
    pairs: list[tuple[Module | None, str | None]] = [*zip(modules, names, strict=True)]
    return pairs + [(None, name) for name in given if name not in names]


def _in_order(modules: list[Module], given: Given) -> list[tuple[Module | None, str | None]]:
    """Modules of the network beside those given: one to one, or where some lack or are too many as shapes say."""
    names = list(given)
    _check_numbers(names)
    if len(names) == len(modules):
        return [*zip(modules, names, strict=True)]
    from difflib import SequenceMatcher

    ours = [tuple((leaf, entry.shape) for leaf, entry in sorted(module.entries.items())) for module in modules]
    theirs = [
        tuple((leaf, values.shape) for leaf, values in sorted(own.items()) if leaf not in (*STATISTICS, COUNTER))
        for own in given.values()
    ]
    pairs: list[tuple[Module | None, str | None]] = []
    for _, i, j, k, m in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        pairs += zip_longest(modules[i:j], names[k:m])
    return pairs


def _check_numbers(names: list[str]) -> None:
    """Raise where numbered modules do not rise: then the dict's order, of an alphabet, is not that of the layers."""
    last: dict[str, tuple[tuple[int, ...], str]] = {}
    for name in names:
        numbers, kind = tuple(map(int, re.findall(r"\d+", name))), re.sub(r"\d+", "#", name)
        if kind in last and last[kind][0] > numbers:
            raise ValueError(
                f'state_dict has module "{last[kind][1]}" before "{name}": its order is not that of the layers. '
                "Name the modules in that order: names=(...)."
            )
        last[kind] = numbers, name
