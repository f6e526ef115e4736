"""The CUDA C++ of this backend: one translation unit, and its parameter structs as NumPy dtypes.

A kernel takes structs by value. Their definition in C++ is the only one: `struct_dtype` reads it, so that Python fills
the same bytes. Members are pointers, `int`, `unsigned`, `long long`, `double`, other structs, and arrays of these.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parents[1]
_LAYERS = ("tensor_core", "product", "patches", "convolution", "batch_norm", "layer_norm", "elementwise", "append")
_SMALL_MLP = ("losses", "passes", "persistent_mlp")
FILES = (
    "machine/base",
    *(f"layers/{name}" for name in _LAYERS),
    "losses/losses",
    "losses/policies",
    "program/inner_loop",
    "execution/jobs",
    "losses/prototypes",
    *(f"small_mlp/{name}" for name in _SMALL_MLP),
)

_INCLUDE = re.compile(r"^#(include \"|pragma once).*\n", re.MULTILINE)
_STRUCT = r"struct {name} \{{\n(.*?)\n\}};"
_JOB = re.compile(r"^    JOB\((\d+), (\w+), (.*)\);$", re.MULTILINE)
_MEMBER = re.compile(r"^  (\w[\w<> ]*?)(\*?) (\w+(?:\[\d+\])?(?:, \w+(?:\[\d+\])?)*);", re.MULTILINE)
_SCALARS = {"int": np.int32, "unsigned": np.uint32, "long long": np.int64, "double": np.float64}


@cache
def source() -> str:
    """All files, in the order of FILES, as one text without includes; line numbers are those of the files."""
    parts = []
    for name in FILES:
        text = (FOLDER / f"{name}.cuh").read_text("utf-8")
        parts.append(f'#line 1 "{name}.cuh"\n' + _INCLUDE.sub("\n", text))
    return "".join(parts)


@cache
def struct_dtype(name: str) -> np.dtype[np.void]:
    """The layout of struct `name`, the same for any T."""
    found = re.search(_STRUCT.format(name=name), source(), re.DOTALL)
    if found is None:
        raise KeyError(name)
    fields = []
    for kind, pointer, members in _MEMBER.findall(found[1]):
        for member in members.split(","):
            label, _, count = member.strip().lstrip("*").partition("[")
            shape = (int(count.rstrip("]")),) if count else ()
            fields.append((label, np.dtype(np.uint64) if pointer else _dtype(kind), shape))
    return np.dtype(fields, align=True)


@cache
def jobs() -> dict[str, int]:
    """The numbers of the kinds of jobs, by their functions: {"convolve<T, P, 4, 4>": 0, ...}."""
    return {function: int(number) for number, _, function in _JOB.findall(source())}


def _dtype(kind: str) -> np.dtype[np.generic]:
    if kind in _SCALARS:
        return np.dtype(_SCALARS[kind])
    return struct_dtype(kind.split("<")[0])
