"""A lock file: it is held by one process and let go by the system when that process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def locked(path: Path, name: str) -> Iterator[None]:
    """Hold the lock at `path` within; ValueError, which says that `name` is in use, where another process holds it."""
    with _held(path, name) as file:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        file.flush()
        try:
            yield
        finally:
            if _is_at(path, file):
                with suppress(OSError):
                    os.remove(path)


def _held(path: Path, name: str) -> BinaryIO:
    while True:
        file = open(path, "a+b")  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read(200).decode("utf-8", "replace") or "another process"
            file.close()
            raise ValueError(
                f"{name} must not be in use: {owner} trains in it. Wait for its end, or name another folder."
            ) from None
        except OSError:  # a file system without locks
            return file
        if _is_at(path, file):
            return file
        file.close()  # its last owner has just removed it


def _is_at(path: Path, file: BinaryIO) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
