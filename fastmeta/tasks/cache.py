"""The user's cache folder, files that are whole or absent, and the libraries that images need."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
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
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("wb") as file:
            yield file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def optional(module: str, package: str) -> Any:
    """An imported module of the "images" extra; ModuleNotFoundError tells how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'Images need {package}, which is not installed: pip install "fastmeta[images]".'
        ) from error
