"""NAME.fastmeta, a stored program with its parameters, and NAME.h: what the CPU backend's own kernels adapt in C by."""

from __future__ import annotations

import ctypes
import os
from math import prod
from typing import Any

import numpy as np

from fastmeta.exports.golden import Golden, samples
from fastmeta.exports.model import ExportModel
from fastmeta.exports.native_plan import planned
from fastmeta.networks.losses import CrossEntropy, SquaredError
from fastmeta_kernels import library
from fastmeta_kernels.contract import Array
from fastmeta_kernels.request import Request, SetShape

LINE = 64
HEADER = """\
/* {name}: adapts to {samples} samples with {steps} steps, then predicts {queries} at once. By fastmeta {version}.
 *
 * The functions are those of the library fastmeta-*.so for this processor; {name}.fastmeta is the program.
 * Program and work begin at multiples of 64 bytes. work is zeroed before its first use; each thread has its own.
 */
#ifndef {upper}_H
#define {upper}_H
#include <stdint.h>
#ifdef __cplusplus
extern "C" {{
#endif

enum {{ {upper}_SAMPLES = {samples}, {upper}_QUERIES = {queries} }};
enum {{ {upper}_INPUTS = {inputs}, {upper}_OUTPUTS = {outputs}, {upper}_PARAMETERS = {parameters} }};
enum {{ {upper}_PROGRAM = {program}, {upper}_WORK = {work} }}; /* bytes */
typedef {target} {name}_target; /* {targets} */

/* why: 0, or 1: no program, 2: damaged, 3: of another version than the library */
void fastmeta_check(const void *program, int64_t bytes, int64_t *why);
/* phi (PARAMETERS): theta after the inner steps on x (SAMPLES x INPUTS) and y */
void fastmeta_adapt(const void *program, void *work, const float *x, const {name}_target *y, float *phi);
/* outputs (QUERIES x OUTPUTS) of x (QUERIES x INPUTS) */
void fastmeta_predict(const void *program, void *work, const float *phi, const float *x, float *outputs);

#ifdef __cplusplus
}}
#endif
#endif
"""


def native_files(model: ExportModel, name: str, queries: int, version: str) -> dict[str, bytes]:
    """The program, its header and the libraries that run it; ValueError where it has no such form or none is there."""
    _check(model)
    libraries = _libraries()
    if not libraries:
        raise ValueError(
            'to="native" must have the libraries of kernels, which wheels for Linux bring. Install one, or build them: '
            "python -m fastmeta_kernels.cpu.native.build."
        )
    content, work = stored(model, queries)
    text = HEADER.format(
        name=name,
        upper=name.upper(),
        samples=model.samples,
        steps=model.steps,
        queries=queries,
        inputs=prod(model.net.input_shape),
        outputs=model.outputs,
        parameters=model.theta.size,
        program=len(content),
        work=work,
        target="int64_t" if model.classifies else "float",
        targets="labels, one a sample" if model.classifies else "targets, SAMPLES x OUTPUTS",
        version=version,
    )
    return {f"{name}.fastmeta": content, f"{name}.h": text.encode()} | libraries


def _check(model: ExportModel) -> None:
    if model.kind != "steps" or model.pull or any(a is not None for a in (model.step_norms, model.batches)):
        raise ValueError(
            f'to="native" must be given a learner of plain inner steps, not {model.learner}. Take to="c" or "onnx".'
        )
    if model.codes is not None:
        raise ValueError('store="int8" must be "float32" to="native": its kernels compute with float32.')
    if model.batch_norm not in ("", "transductive"):
        raise ValueError(
            f'batch_norm="{model.batch_norm}" must be "transductive" to="native": its predict runs a whole query set.'
        )


def stored(model: ExportModel, queries: int) -> tuple[bytes, int]:
    """The file of a program, and the bytes of work that it needs."""
    from fastmeta_kernels.cpu.layout import stored as layout
    from fastmeta_kernels.cpu.layout.job import FIELDS

    sections: list[bytes] = []
    plans = np.zeros(2 * len(layout.WIDTHS), layout.STORED)
    at = -(-(layout.HEADER.itemsize + plans.nbytes) // LINE) * LINE

    def put(values: Array) -> int:
        nonlocal at
        begin, content = at, np.ascontiguousarray(values).tobytes()
        content += bytes(-len(content) % LINE)
        sections.append(content)
        at += len(content)
        return begin

    rates = np.zeros((1, 1), np.float32) if model.rates is None else model.rates
    theta, rates_at, work = put(model.theta), put(rates), 0
    first = -(-(8 * FIELDS + 4 * max(model.steps, 1)) // LINE) * LINE
    for i, width in enumerate(layout.WIDTHS):
        place = first
        for j, one in enumerate(planned(width, _requests(model, queries))):
            row: Any = plans[2 * i + j]
            row["place"], row["workspace"], row["edges"] = place, one.workspace, put(one.edges)
            row["code"], row["code_rows"] = put(one.code), len(one.code)
            row["schedule"], row["schedule_rows"] = put(one.schedule), len(one.schedule)
            row["first_rows"], row["last_rows"] = one.first_rows, one.last_rows
            place += -(-4 * one.workspace // LINE) * LINE
        work = max(work, place)
    header: Any = np.zeros((), layout.HEADER)
    for key, value in {
        "magic": layout.MAGIC, "stamp": layout.version(library.stamp()), "format": layout.FORMAT, "bytes": at,
        "parameters": model.theta.size, "samples": model.samples, "queries": queries, "work": work, "theta": theta,
        "inputs": prod(model.net.input_shape), "outputs": model.outputs, "labels": model.classifies, "rates": rates_at,
    }.items():  # fmt: skip
        header[key] = value
    begin = header.tobytes() + plans.tobytes()
    words = np.frombuffer(begin + bytes(-len(begin) % LINE) + b"".join(sections), np.int64).copy()
    words[1] = _sum(words, layout.OFFSET, layout.PRIME, layout.SUMMED)
    return words.tobytes(), work


def _sum(words: Array, offset: int, prime: int, first: int) -> int:
    """FNV-1a over whole words, as the library takes it."""
    found, mask = offset & 2**64 - 1, 2**64 - 1
    for word in words[first:].tolist():
        found = (found ^ (word & mask)) * prime & mask
    return found - 2**64 if found >= 2**63 else found


def _requests(model: ExportModel, queries: int) -> list[Request]:
    """Adapt one task, then predict."""
    table, single = model.net.table.tobytes(), np.dtype("float32")
    loss = (CrossEntropy() if model.classifies else SquaredError()).kernel
    adapt = Request("adapt", table, single, 1, SetShape(model.samples, False, loss), steps=model.steps)
    if model.rates is not None and model.steps:
        rows, columns = model.rates.shape
        adapt = adapt._replace(rates=(rows, columns))
    start, stop = map(int, model.adapted)
    return [adapt._replace(adapted=(start, stop)), Request("predict", table, single, 1, SetShape(queries))]


def _libraries() -> dict[str, bytes]:
    """The libraries of these sources, by their names."""
    folder = os.environ.get("FASTMETA_LIBRARY") or library.FOLDER
    found = {}
    for level in library.LEVELS:
        path = os.path.join(folder, library.file_name(level))
        if os.path.isfile(path):
            with open(path, "rb") as file:
                found[library.file_name(level)] = file.read()
    return found


def native_self_test(model: ExportModel, content: bytes, golden: Golden, queries: int) -> float | None:
    """The worst difference from float64 on made-up samples, over the largest output; None without the library here."""
    here = library.loaded()
    if here is None:
        return None
    x, asked, y = samples(model, golden.seed, queries)
    program, work = (aligned(count) for count in (len(content), int(np.frombuffer(content, np.int64)[11])))
    program[:] = np.frombuffer(content, np.uint8)
    phi, outputs = np.zeros(model.theta.size, np.float32), np.zeros((queries, model.outputs), np.float32)
    y = np.ascontiguousarray(y, np.int64 if model.classifies else np.float32)
    why = np.zeros(1, np.int64)
    arguments = {
        "fastmeta_check": (program.ctypes.data, len(content), why.ctypes.data),
        "fastmeta_adapt": (program.ctypes.data, work.ctypes.data, *(a.ctypes.data for a in (x, y, phi))),
        "fastmeta_predict": (program.ctypes.data, work.ctypes.data, *(a.ctypes.data for a in (phi, asked, outputs))),
    }
    for function, given in arguments.items():
        call = getattr(here.functions, function)
        call.restype = None
        call(*map(ctypes.c_int64, given))
    if why[0] or not np.isfinite(outputs).all():
        return float("inf")
    return float(np.abs(outputs - model.exact(x, y, asked)).max()) / golden.scale


def aligned(count: int) -> Array:
    """Zeroed bytes that begin at a multiple of a cache line."""
    raw = np.zeros(count + LINE, np.uint8)
    start = -raw.ctypes.data % LINE
    return raw[start : start + count]
