"""The CPU backend's kernels as a shared library that came with a wheel: the file that serves here, or why none does.

A library's name carries a hash of the sources that it was compiled from and the kind of processor that it is for; its
last bytes are a hash of all before them. One of other sources, one that is damaged or asks for more than this processor
has is left alone, with one line that says so, and Numba compiles the kernels as it does without any.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from functools import cache
from typing import Any, NamedTuple

from fastmeta_kernels.files import warn

PACKAGE = os.path.dirname(os.path.realpath(__file__))
FOLDER = os.path.join(PACKAGE, "cpu", "native")
DTYPES = ("float32", "float64")
SUM_BYTES = 32  # at the end of a library
OFF = "FASTMETA_LIBRARY=0"
_planned: list[Level] = []


class Level(NamedTuple):
    """A kind of processor: whose machine, how wide its vectors are in bytes, what Linux must say it has."""

    name: str
    machine: str
    vector_bytes: int
    flags: frozenset[str]


_V2 = frozenset("cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3".split())  # noqa: SIM905
_V3 = _V2 | frozenset("abm avx avx2 bmi1 bmi2 f16c fma movbe xsave".split())  # noqa: SIM905
_V4 = _V3 | frozenset("avx512bw avx512cd avx512dq avx512f avx512vl".split())  # noqa: SIM905
LEVELS = (  # the best first
    Level("x86-64-v4", "x86_64", 64, _V4),
    Level("x86-64-v3", "x86_64", 32, _V3),
    Level("x86-64-v2", "x86_64", 16, _V2),
    Level("aarch64", "aarch64", 16, frozenset()),  # what its Linux asks for is enough
)


class Library(NamedTuple):
    """A library that was loaded."""

    level: Level
    path: str
    functions: Any

    def address(self, name: str) -> int:
        """Where the machine code of a function lies."""
        return int(ctypes.cast(getattr(self.functions, name), ctypes.c_void_p).value or 0)


@cache
def stamp() -> str:
    """A hash of every source file that decides what kernels do and how they are compiled."""
    digest = hashlib.sha256()
    for path in sorted([*_sources(PACKAGE), *(path for at in os.walk(f"{PACKAGE}/cpu") for path in _sources(at[0]))]):
        with open(path, "rb") as file:
            digest.update(path[len(PACKAGE) :].encode() + file.read())
    return digest.hexdigest()


def file_name(level: Level) -> str:
    """What the library of these sources is called."""
    return f"fastmeta-{stamp()[:16]}-{level.name}.so"


def mark(level: Level) -> str:
    """What a library of these sources says of itself, as the text `fastmeta_mark`."""
    return f"{stamp()} {level.name}"


@cache
def loaded() -> Library | None:
    """The library that serves in this process, None where there is none for it; a warning says why one is left alone.

    FASTMETA_LIBRARY names another folder of libraries, or is 0: none then.
    """
    if _planned:
        return Library(_planned[0], "", None)
    found, why = _found()
    if why and why != OFF:
        warn(f"{why} Numba compiles the kernels instead, where it is installed.")
    return found


def plan_only(level: Level) -> None:
    """From now on this process writes programs for such processors and runs none; before the backend is imported."""
    _planned.append(level)


def in_use() -> str:
    """What `loaded` has found, in words."""
    found, why = _found()
    return f"the library for {found.level.name}" if found else why or "no library"


@cache
def _found() -> tuple[Library | None, str]:
    """The library, or why there is none; neither where none came with this installation."""
    chosen = os.environ.get("FASTMETA_LIBRARY")
    if chosen == "0":
        return None, OFF
    folder = chosen or FOLDER
    there = [name for name in _names(folder) if name.startswith("fastmeta-") and name.endswith(".so")]
    if not there:
        return None, f'FASTMETA_LIBRARY="{chosen}" must be 0 or a folder of libraries.' if chosen else ""
    of_these = [level for level in LEVELS if file_name(level) in there]
    if not of_these:
        return None, f'The libraries in "{folder}" are of other sources than this fastmeta.'
    fit = [level for level in of_these if level in supported()]
    if not fit:
        names = ", ".join(level.name for level in of_these)
        return None, f'The libraries in "{folder}" are for other processors ({names}).'
    return _opened(os.path.join(folder, file_name(fit[0])), fit[0])


def _opened(path: str, level: Level) -> tuple[Library | None, str]:
    """The library at a path, or what is wrong with it. What is damaged is not loaded: it could end the process."""
    if not os.path.isfile(path):  # a pipe would wait for its writer
        return None, f'The library "{path}" is no file.'
    try:
        with open(path, "rb") as file:
            content = file.read()
        if hashlib.sha256(content[:-SUM_BYTES]).digest() != content[-SUM_BYTES:]:
            return None, f'The library "{path}" is cut short or damaged. Install fastmeta again.'
        functions = ctypes.CDLL(path)
        said = ctypes.c_char_p(ctypes.addressof(ctypes.c_char.in_dll(functions, "fastmeta_mark"))).value
    except (OSError, ValueError) as error:
        return None, f'The library "{path}" cannot be loaded ({error}).'
    if said != mark(level).encode():
        return None, f'The library "{path}" is of other sources than its name says.'
    return Library(level, path, functions), ""


@cache
def supported() -> tuple[Level, ...]:
    """The kinds of processors that this one is of, the best first; of that width if FASTMETA_VECTOR_BYTES is set."""
    machine = os.uname().machine if hasattr(os, "uname") else ""
    width = os.environ.get("FASTMETA_VECTOR_BYTES")
    flags = processor_flags()
    fit = [level for level in LEVELS if level.machine == machine and level.flags <= flags]
    return tuple(level for level in fit if not width or str(level.vector_bytes) == width)


def processor_flags(path: str = "/proc/cpuinfo") -> frozenset[str]:
    """What the first processor of this machine has, in Linux's words; nothing where it does not say."""
    try:
        with open(path, "rb", buffering=0) as file:
            text = file.read(1 << 14).decode("utf-8", "replace")  # all processors of a large machine take long
    except OSError:
        return frozenset()
    for line in text.splitlines():
        name, _, words = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(words.split())
    return frozenset()


def _sources(folder: str) -> list[str]:
    return [f"{folder}/{name}" for name in _names(folder) if name.endswith(".py")]


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
