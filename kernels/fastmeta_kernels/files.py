"""Files that are whole or absent, and caches that may fail: for machine code, images and learners alike."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

_told: set[str] = set()


class CacheWarning(UserWarning):
    """A cache on disk is of no use: the work is done without it, to the same result."""


@contextmanager
def written_beside(path: str | os.PathLike[str], durable: bool = False, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """A file to write that takes the name `path` once it is whole, and vanishes where writing fails.

    Until then its name is no other thread's, process's or machine's. durable: whatever happens to the machine
    afterwards, `path` is the whole new file. mode: as of os.open. A link stays, and what it points to is written.
    Raises OSError that names `path`, also where a device or a pipe has that name.
    """
    name, path = os.fspath(path), os.path.realpath(path)
    if os.path.lexists(path) and not os.path.isfile(path):
        number = errno.EISDIR if os.path.isdir(path) else errno.EINVAL
        raise OSError(number, "It must be a file, not a folder, device or pipe", name)
    place = os.path.dirname(path)
    part = os.path.join(place, f".fastmeta-{os.urandom(8).hex()}.tmp")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(part, path)
        if durable:
            _flush_folder(place)
    except OSError as error:
        if error.errno is None or error.filename not in (None, part):
            raise
        raise OSError(error.errno, error.strerror, name) from error
    finally:
        with suppress(OSError):
            os.remove(part)


def leftovers(folder: str | os.PathLike[str]) -> list[str]:
    """Files in `folder` that `written_beside` has begun and a killed process has left."""
    names = [name for name in os.listdir(folder) if name.startswith(".fastmeta-") and name.endswith(".tmp")]
    return [os.path.join(folder, name) for name in names]


@contextmanager
def spared(path: str | os.PathLike[str], cost: str, cure: str) -> Iterator[None]:
    """An OSError within, of the cache at `path`, ends what is within and no more: a warning says the cost and cure."""
    try:
        yield
    except OSError as error:
        warn(
            f'The cache "{os.fspath(path)}" cannot be used ({error.strerror or error}). {cost} {cure}', f"{path} {cost}"
        )


def warn(message: str, about: str = "") -> None:
    """A CacheWarning, once in a process, or once `about` a thing.

    Where warnings are errors it is a line on standard error: no run ends by the fault of a cache.
    """
    if (about or message) in _told:
        return
    _told.add(about or message)
    try:
        warnings.warn(message, CacheWarning, stacklevel=2)
    except CacheWarning:
        print(f"CacheWarning: {message}", file=sys.stderr)


def _flush_folder(place: str) -> None:
    """Let the names in a folder outlive the machine, where folders can be opened."""
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
