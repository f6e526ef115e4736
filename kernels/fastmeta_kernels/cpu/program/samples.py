"""Samples on their way in and outputs on their way out of a workspace."""

from __future__ import annotations

from fastmeta_kernels.cpu.layout.instruction import ARGUMENTS
from fastmeta_kernels.cpu.layout.job import stream
from fastmeta_kernels.cpu.layout.network import CP, OC, OCP, OH, OW, X_N, X_R, Y_N, Y_R, C, H, W
from fastmeta_kernels.cpu.machine.jit import kernel
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES, load, load_first, splat, store, store_first


@kernel
def _read_patches(ws, job, code, l, t, first, last, target):
    """Copy what lies under each pixel of a convolution's output, 0 outside the image, instead of the image."""
    a = ARGUMENTS + 2
    h, w, c = code[l, a], code[l, a + 1], code[l, a + 2]
    kernel, stride, padding = code[l, a + 3], code[l, a + 4], code[l, a + 5]
    x, width = stream(ws, job, code[l, ARGUMENTS], t, last * h * w * c), VECTOR_BYTES // ws.itemsize
    zero = splat(ws.dtype.type(0.0))
    for i in range(first, last):
        for y in range(code[l, H]):
            at = target + i * code[l, X_N] + y * code[l, X_R]
            for q in range(-padding, code[l, W] * stride - padding, stride):
                begin, end = max(q, 0), min(q + kernel, w)
                for r in range(y * stride - padding, y * stride - padding + kernel):
                    count = (end - begin) * c if 0 <= r < h else 0
                    if count < kernel * c:
                        for j in range(at, at + kernel * c, width):
                            store_first(ws, j, zero, min(at + kernel * c - j, width))
                    source, to = ((i * h + r) * w + begin) * c, at + (begin - q) * c
                    for j in range(0, count, width):
                        store_first(ws, to + j, load_first(x, source + j, min(count - j, width)), min(count - j, width))
                    at += kernel * c


@kernel
def read(ws, job, code, l, t, first, last, target):
    """Copy samples first .. last of a stream (N, H, W, C) into the first position of a set."""
    if code[l, ARGUMENTS + 5] > 0:
        _read_patches(ws, job, code, l, t, first, last, target)
        return
    width = VECTOR_BYTES // ws.itemsize
    cp, c, line = code[l, CP], code[l, C], code[l, W] * code[l, C]
    source = first * code[l, H] * line
    rows = code[l, H]
    x = stream(ws, job, code[l, ARGUMENTS], t, last * code[l, H] * line)
    if code[l, X_N] == rows * line and last > first:  # dense altogether: one run
        target += first * code[l, X_N]
        line, rows, first, last = (last - first) * rows * line, 1, 0, 1
    for i in range(first, last):
        for r in range(rows):
            at = target + i * code[l, X_N] + r * code[l, X_R]
            if c == cp:  # a row of pixels lies dense
                done = line - line % width
                for j in range(0, done, width):
                    store(ws, at + j, load(x, source + j))
                for j in range(done, line):
                    ws[at + j] = x[source + j]
                source += line
                continue
            for q in range(at, at + code[l, W] * cp, cp):
                for j in range(c):
                    ws[q + j] = x[source]
                    source += 1


@kernel
def move(ws, code, l, n, position, dense):
    """Between the last position (padded) and dense outputs (N, O)."""
    c, to_dense = code[l, OC], code[l, ARGUMENTS + 2]
    for i in range(n):
        for r in range(code[l, OH]):
            for q in range(code[l, OW]):
                at = position + i * code[l, Y_N] + r * code[l, Y_R] + q * code[l, OCP]
                for j in range(c):
                    if to_dense:
                        ws[dense + j] = ws[at + j]
                    else:
                        ws[at + j] = ws[dense + j]
                dense += c


@kernel
def write(ws, job, code, l, t, outputs):
    """Copy dense outputs to a stream."""
    size = code[l, ARGUMENTS + 2]
    to = stream(ws, job, code[l, ARGUMENTS], t, size)
    for i in range(size):
        to[i] = ws[outputs + i]
