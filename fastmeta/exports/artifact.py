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
from typing import Any

import fastmeta
from fastmeta import checks
from fastmeta.exports import c_source, wrapper
from fastmeta.exports.compiler import self_test
from fastmeta.exports.golden import golden
from fastmeta.exports.model import ExportModel, export_model
from fastmeta.exports.report import ExportReport, report
from fastmeta.learning.learner import Learner

TARGETS = ("c",)
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
    loss: str | None = None,
    store: str = "float32",
    batch_norm: str | None = None,
    ram: int | None = None,
    force: bool = False,
    dry_run: bool = False,
) -> ExportReport:
    """Write a trained learner as C99, with an adapt() and a predict() that need no memory but the caller's.

    NAME.h and NAME.c are the artifact, NAME_test.c runs its self-test, NAME.py wraps it in Python without NumPy,
    NAME.json describes it for tools. samples: the most support samples of one adaptation; it decides the memory.
    queries: the most of one predict with transductive batch norm, by default `samples`. ways: the most classes,
    of learners that have no fixed number of them. loss: "cross_entropy" or "squared_error", where a network with
    several outputs takes inner steps. store: "float32", or "int8" with a scale for each parameter array: storage
    only, the arithmetic is float32. batch_norm: "frozen" (by default), "transductive", or "running" for MAML++.
    ram: bytes that state and work must fit into. force: replace files. dry_run: the sizes alone.

    Raises ValueError or TypeError where the learner cannot be exported or an argument is out of range,
    FileExistsError, OSError; RuntimeError where the compiler refuses the files.
    """
    checks.choice("to", to, TARGETS)
    model = export_model(learner, samples, ways, loss, store, batch_norm)
    most = checks.integer("queries", samples if queries is None else queries, 1)
    identifier(name)
    sizes = report(model, name, most)
    check_memory(sizes, ram)
    if dry_run:
        return sizes
    files = written(model, name, most, sizes)
    place = Path(folder)
    existing = [file for file in files if (place / file).exists()]
    if existing and not force:
        raise FileExistsError(
            f'folder="{place}" must not hold {existing[0]} yet. Pass force=True (--force) to replace it.'
        )
    error = self_test(files, name)
    write(place, files)
    return replace(sizes, files=tuple(place / file for file in files), error=error)


def written(model: ExportModel, name: str, queries: int, sizes: ExportReport) -> dict[str, str]:
    """The files of a C artifact, by their names."""
    version = fastmeta.__version__
    files = {
        f"{name}.h": c_source.header(model, name, queries, version),
        f"{name}.c": c_source.source(model, golden(model), name, version),
        f"{name}_test.c": c_source.program(name),
        f"{name}.py": wrapper.module(model, name, version),
    }
    described = {key: value for key, value in asdict(sizes).items() if key not in ("files", "error")}
    described |= {"format": 1, "fastmeta": version, "sha256": model.hash, "learner": model.learner}
    described |= {"kind": model.kind, "input_shape": list(model.net.input_shape), "outputs": model.outputs}
    described |= {"classifies": model.classifies, "store": "float32" if model.codes is None else "int8"}
    return files | {f"{name}.json": json.dumps(described, indent=2) + "\n"}


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


def write(folder: Path, files: Mapping[str, Any]) -> None:
    """Each file beside its place first, then renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        beside = folder / f".{name}.{os.getpid()}.tmp"
        beside.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        os.replace(beside, folder / name)
