"""`fm.export`: a learner becomes files that adapt without Python."""

from __future__ import annotations

import json
import keyword
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import fastmeta
from fastmeta import checks
from fastmeta.exports import c_source, wrapper
from fastmeta.exports.compiler import self_test
from fastmeta.exports.golden import QUERIES, Golden, golden
from fastmeta.exports.model import ExportModel, export_model
from fastmeta.exports.native_files import native_files, native_self_test
from fastmeta.exports.onnx_files import onnx_files, onnx_self_test
from fastmeta.exports.report import ExportReport, report
from fastmeta.exports.wasm_files import wasm_files
from fastmeta.learning.learner import Learner
from fastmeta.networks.losses import Loss
from fastmeta_kernels.files import written_beside

TARGETS = ("c", "onnx", "wasm", "native")
MOST_BYTES = 2**31 - 1
C_WORDS = frozenset(
    """auto break case char const continue default do double else enum extern float for goto if inline int long register
    restrict return short signed sizeof static struct switch typedef union unsigned void volatile while asm class
    delete new private protected public template this throw try catch namespace using virtual operator friend bool main
    assert complex ctype errno fenv inttypes iso646 limits locale setjmp stdalign stdarg stdatomic stdbool stddef
    stdint stdio stdlib stdnoreturn tgmath threads uchar wchar wctype memset memcpy sqrtf""".split()  # noqa: SIM905
)


def export(
    learner: Learner,
    folder: str | os.PathLike[str],
    to: str = "c",
    name: str = "model",
    *,
    samples: int,
    queries: int | None = None,
    ways: int | None = None,
    loss: Loss | None = None,
    store: str = "float32",
    batch_norm: str | None = None,
    ram: int | None = None,
    force: bool = False,
    dry_run: bool = False,
) -> ExportReport:
    """Write a trained learner as C99, ONNX, WebAssembly or a program of the kernels' library: it adapts without Python.

    to="c": NAME.h and NAME.c have an adapt() and a predict() that need no memory but the caller's, NAME_test.c runs
    their self-test, NAME.py wraps them in Python without NumPy. to="onnx": NAME_adapt.onnx gives what
    NAME_predict.onnx takes beside queries, in stock operators of opset 17, for any number of samples and inner
    steps; needs `fastmeta[onnx]`. to="wasm": NAME.wasm has the functions of NAME.h and imports nothing, NAME.html is a
    page that learns drawings by it, for classifiers of gray images; needs clang. to="native": NAME.fastmeta is run by
    the libraries of this backend's kernels, which are put beside it, NAME.h declares their functions; for learners of
    plain inner steps, without batch norm or with transductive. NAME.json describes each for tools.

    samples: the most support samples of one adaptation; it decides the memory. queries: the most of one predict with
    transductive batch norm, by default `samples`. ways: the most classes, of learners that have no fixed number of
    them. loss: where inner steps of a network with several outputs have one that the learner was not told. store:
    "float32", or "int8" with a scale for each parameter array: storage only, the arithmetic is float32. batch_norm:
    "frozen" (by default), "transductive", or "running" for MAML++. ram: bytes that state and work must fit into.
    force: replace files. dry_run: the sizes alone.

    Raises ValueError or TypeError where the learner cannot be exported or an argument is out of range,
    FileExistsError, OSError; RuntimeError where the compiler refuses the files; ModuleNotFoundError without what
    writes them.
    """
    checks.choice("to", to, TARGETS)
    model = export_model(learner, samples, ways, loss, store, batch_norm)
    most = checks.integer("queries", samples if queries is None else queries, 1)
    identifier(name)
    sizes = report(model, name, most, to)
    check_memory(sizes, ram)
    if dry_run:
        return sizes
    test = golden(model, most if model.batch_norm == "transductive" else QUERIES)
    sources = c_files(model, name, most, sizes, test)
    if to == "c":
        files = sources
    elif to == "wasm":
        files = wasm_files(model, sources, name)
    elif to == "native":
        files = native_files(model, name, most, fastmeta.__version__)
    else:
        files = onnx_files(model, name, fastmeta.__version__)
    names = [*files, f"{name}.json"]
    place = Path(folder)
    existing = [file for file in names if (place / file).exists()]
    if existing and not force:
        raise FileExistsError(
            f'folder="{place}" must not hold {existing[0]} yet. Pass force=True (--force) to replace it.'
        )
    if to == "onnx":
        error = onnx_self_test(model, files, test)
    elif to == "native":
        error = native_self_test(model, files[f"{name}.fastmeta"], test, most)
    else:
        error = self_test(sources, name)
    write(place, files | {f"{name}.json": described(model, sizes)})
    return replace(sizes, files=tuple(place / file for file in names), error=error)


def c_files(model: ExportModel, name: str, queries: int, sizes: ExportReport, test: Golden) -> dict[str, bytes]:
    """The files of a C artifact but for its description, by their names."""
    version = fastmeta.__version__
    files = {
        f"{name}.h": c_source.header(model, name, queries, version),
        f"{name}.c": c_source.source(model, test, name, version),
        f"{name}_test.c": c_source.program(name),
        f"{name}.py": wrapper.module(model, name, version),
    }
    return {file: text.encode("utf-8") for file, text in files.items()}


def described(model: ExportModel, sizes: ExportReport) -> bytes:
    """NAME.json, for tools."""
    facts = {key: value for key, value in asdict(sizes).items() if key not in ("files", "error")}
    facts |= {"format": 1, "fastmeta": fastmeta.__version__, "sha256": model.hash, "learner": model.learner}
    facts |= {"kind": model.kind, "input_shape": list(model.net.input_shape), "outputs": model.outputs}
    facts |= {"classifies": model.classifies, "store": "float32" if model.codes is None else "int8"}
    return json.dumps(facts, indent=2).encode("utf-8") + b"\n"


def identifier(name: str) -> str:
    """`name` where C and Python can use it; ValueError otherwise."""
    taken = C_WORDS | set(keyword.kwlist) | set(sys.stdlib_module_names)
    if (
        not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,39}", name)
        or name.lower() in taken - {"model"}
        or name.endswith("_test")
    ):
        raise ValueError(
            f'name="{name}" must be a word of at most 40 letters, digits and "_" that C and Python do not use. '
            'Take one such as "gesture".'
        )
    return name


def check_memory(sizes: ExportReport, ram: int | None) -> None:
    """ValueError where memory does not fit into `ram`, or into what an int can count."""
    needed = sizes.state + sizes.work
    if max(needed, sizes.flash) > MOST_BYTES:
        raise ValueError(f"samples={sizes.samples} must be smaller: {needed:,} bytes cannot be counted. Lower samples.")
    if ram is not None and needed > checks.integer("ram", ram, 1):
        raise ValueError(
            f"ram={ram} must be at least {needed:,} bytes: a state of {sizes.state:,} and a work of {sizes.work:,}. "
            "Lower samples, or use a smaller network."
        )


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Each file beside its place first, then renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        with written_beside(folder / name) as file:
            file.write(content)
