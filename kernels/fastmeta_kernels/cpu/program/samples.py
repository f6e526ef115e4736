"""Samples on their way in and outputs on their way out of a workspace."""

from __future__ import annotations

from fastmeta_kernels.cpu.layout.instruction import INPUT, MOVE, OUTPUT, SAMPLES, Code, S, at, one, place
from fastmeta_kernels.cpu.layout.job import stream as job_stream
from fastmeta_kernels.cpu.layout.network import Plan
from fastmeta_kernels.cpu.machine.jit import kernel
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES, load, load_first, splat, store, store_first


def read(code: Code, of: Plan, stream: int) -> None:
    """Emit the way of a set's samples, or of their patches, into the first position of a set."""
    layer, names = of.layers[0], ("image_h", "image_w", "image_c", "taps", "stride", "padding")
    patches = dict(zip(names, of.image, strict=True))
    code.add(INPUT, SAMPLES, layer, stream=stream, x=at(S, layer.x), **patches)


@kernel
def _read_patches(ws, job, it, t, first, last, target):
    """Copy what lies under each pixel of a convolution's output, 0 outside the image, instead of the image."""
    h, w = it.image_h, it.image_w
    c = it.image_c
    kernel, stride = it.taps, it.stride
    padding = it.padding
    x, width = job_stream(ws, job, it.stream, t, last * h * w * c), VECTOR_BYTES // ws.itemsize
    zero = splat(ws.dtype.type(0.0))
    for i in range(first, last):
        for y in range(it.h):
            at = target + i * it.x_n + y * it.x_r
            for q in range(-padding, it.w * stride - padding, stride):
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
def run_input(ws, job, code, l, now, t, first, last):
    """INPUT: copy samples first .. last of a stream (N, H, W, C) into the first position of a set."""
    it = one(INPUT, code, l)
    target = place(now, it.x)
    if it.taps > 0:
        _read_patches(ws, job, it, t, first, last, target)
        return
    width = VECTOR_BYTES // ws.itemsize
    cp, c = it.cp, it.c
    line = it.w * it.c
    source = first * it.h * line
    rows = it.h
    x = job_stream(ws, job, it.stream, t, last * it.h * line)
    if it.x_n == rows * line and last > first:  # dense altogether: one run
        target += first * it.x_n
        line, rows = (last - first) * rows * line, 1
        first, last = 0, 1
    for i in range(first, last):
        for r in range(rows):
            at = target + i * it.x_n + r * it.x_r
            if c == cp:  # a row of pixels lies dense
                done = line - line % width
                for j in range(0, done, width):
                    store(ws, at + j, load(x, source + j))
                for j in range(done, line):
                    ws[at + j] = x[source + j]
                source += line
                continue
            for q in range(at, at + it.w * cp, cp):
                for j in range(c):
                    ws[q + j] = x[source]
                    source += 1


@kernel
def run_move(ws, code, l, now):
    """MOVE: between the last position (padded) and dense outputs (N, O)."""
    it = one(MOVE, code, l)
    position, dense = place(now, it.position), place(now, it.dense)
    c, to_dense = it.oc, it.to_dense
    for i in range(it.n):
        for r in range(it.oh):
            for q in range(it.ow):
                at = position + i * it.y_n + r * it.y_r + q * it.ocp
                for j in range(c):
                    if to_dense:
                        ws[dense + j] = ws[at + j]
                    else:
                        ws[at + j] = ws[dense + j]
                dense += c


@kernel
def run_output(ws, job, code, l, now, t):
    """OUTPUT: copy dense outputs to a stream."""
    it = one(OUTPUT, code, l)
    outputs, to = place(now, it.outputs), job_stream(ws, job, it.stream, t, it.size)
    for i in range(it.size):
        to[i] = ws[outputs + i]
