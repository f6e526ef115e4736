"""A C compiler, where one is there: an artifact is compiled, and tests itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

FLAGS = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Werror")


def compiler() -> str | None:
    """The command of the first C compiler on the path: $CC, cc, gcc or clang."""
    return next(
        (name for name in (os.environ.get("CC", ""), "cc", "gcc", "clang") if name and shutil.which(name)), None
    )


def self_test(files: dict[str, bytes], name: str) -> float | None:
    """The worst error that the artifact finds in itself; None without a compiler.

    RuntimeError where it does not compile.
    """
    command = compiler()
    if command is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        for file, content in files.items():
            (Path(folder) / file).write_bytes(content)
        build(command, folder, [f"{name}.c", f"{name}_test.c"], "-o", "test")
        done = subprocess.run([os.path.join(folder, "test")], capture_output=True, text=True, check=False)
    found = re.match(r"worst (-?\d+) e-9", done.stdout)
    if found is None:
        raise RuntimeError(f"the self-test of {name} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return int(found[1]) * 1e-9


def library(folder: str | os.PathLike[str], name: str) -> Path:
    """libNAME.so of the artifact in `folder`, which NAME.py loads; RuntimeError without a compiler."""
    command = compiler()
    if command is None:
        raise RuntimeError(f"no C compiler is on the path to compile {name}.c. Install gcc or clang, or set CC.")
    build(command, folder, [f"{name}.c"], "-shared", "-fPIC", "-o", f"lib{name}.so")
    return Path(folder) / f"lib{name}.so"


def build(command: str, folder: str | os.PathLike[str], sources: list[str], *options: str) -> None:
    """Compile C99 in `folder`; RuntimeError with what the compiler said where it fails."""
    done = subprocess.run(
        [command, *FLAGS, *sources, *options, "-lm"], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{command} does not compile {' '.join(sources)}: {done.stderr}")
