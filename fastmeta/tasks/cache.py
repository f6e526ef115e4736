"""The user's cache folder, files that are whole or absent, caches that may fail, and the libraries that images need."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


def cache_folder() -> Path:
    """FASTMETA_CACHE where it is set, else this user's cache folder for fastmeta."""
    chosen = os.environ.get("FASTMETA_CACHE")
    if chosen:
        return Path(chosen)
    return Path(optional("platformdirs", "platformdirs").user_cache_dir("fastmeta"))


@contextmanager
def written_beside(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes the name `path` once it is whole, and vanishes where writing fails."""
    import secrets

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def keep(path: Path, write: Callable[[IO[bytes]], object]) -> bool:
    """Whether `write` could fill the cache `path`; where the place cannot be written, a warning says so."""
    try:
        with written_beside(path) as file:
            write(file)
    except OSError as error:
        warnings.warn(
            f"The cache {path} cannot be written ({error}), so its work is done on every start. "
            "Set FASTMETA_CACHE to a folder that can be written.",
            stacklevel=3,
        )
        return False
    return True


def optional(module: str, package: str) -> Any:
    """An imported module of the "images" extra; ModuleNotFoundError tells how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'Images need {package}, which is not installed: pip install "fastmeta[images]".'
        ) from error
