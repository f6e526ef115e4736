"""Softmax of the rows of a matrix: exponentials to 1 ulp and logarithms to 2, by whole vectors at any rows' length."""

from __future__ import annotations

from fastmeta_kernels.cpu.machine.exponential import exp, log
from fastmeta_kernels.cpu.machine.jit import kernel
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES, load, load_first, store, store_first


@kernel
def exponentials(ws, at, count):
    """ws[i] = e^ws[i] of `count` values that are not positive; none behind them is touched."""
    width = VECTOR_BYTES // ws.itemsize
    end = at + count - count % width
    for i in range(at, end, width):
        store(ws, i, exp(load(ws, i)))
    if end < at + count:
        store_first(ws, end, exp(load_first(ws, end, at + count - end)), at + count - end)


@kernel
def logarithms(ws, at, count):
    """ws[i] = log ws[i] of `count` values from 1 on; none behind them is touched."""
    width = VECTOR_BYTES // ws.itemsize
    end = at + count - count % width
    for i in range(at, end, width):
        store(ws, i, log(load(ws, i)))
    if end < at + count:
        store_first(ws, end, log(load_first(ws, end, at + count - end)), at + count - end)


@kernel
def below_largest(ws, n, o, z, to):
    """ws[to] = z - max z for each row of z (n, o)."""
    for i in range(0, n * o, o):
        top = ws[z + i]
        for j in range(i + 1, i + o):
            top = max(top, ws[z + j])
        for j in range(i, i + o):
            ws[to + j] = ws[z + j] - top
