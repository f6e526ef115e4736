"""Weights to those of Winograd's small products, `count` of them a side, and their gradients back."""

from __future__ import annotations

from fastmeta_kernels.cpu.layout.winograd import TAPS
from fastmeta_kernels.cpu.machine.jit import kernel
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES, load, splat, store


@kernel
def from_weight(ws, w, u, weights, count, size, first, last, temporary):
    """U[i, j, (c o)] of W[ky, kx, (c o)], for scalars first .. last of `size`, in whole vectors."""
    width = VECTOR_BYTES // ws.itemsize
    for q in range(first, last, width):
        for i in range(TAPS):
            weights(ws, w + TAPS * i * size + q, size, temporary + i * width, TAPS * width)
        for j in range(count):
            weights(ws, temporary + TAPS * j * width, width, u + j * size + q, count * size)


@kernel
def to_weight(ws, u, parts, w, taps, count, size, first, last, temporary, add, sign):
    """W[ky, kx, (c o)] = G^T U G, or += sign * (...), for U[i, j, (c o)] the sum of `parts` one after another."""
    width, signs = VECTOR_BYTES // ws.itemsize, splat(sign)
    pairs = count * count
    for q in range(first, last, width):
        for f in range(pairs):
            whole = load(ws, u + f * size + q)
            for i in range(1, parts):
                whole = whole + load(ws, u + (i * pairs + f) * size + q)
            store(ws, temporary + f * width, whole)
        for j in range(count):
            taps(ws, temporary + j * width, count * width)
        for i in range(TAPS):
            line = temporary + i * count * width
            taps(ws, line, width)
            for j in range(TAPS):
                at = w + (TAPS * i + j) * size + q
                value = load(ws, line + j * width)
                store(ws, at, load(ws, at) + signs * value if add else value)
