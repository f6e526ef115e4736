"""The user's cache folder, caches of images that may fail, and the libraries that images need."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from fastmeta_kernels.files import spared, written_beside


def cache_folder() -> Path:
    """FASTMETA_CACHE where it is set, else this user's cache folder for fastmeta."""
    chosen = os.environ.get("FASTMETA_CACHE")
    if chosen:
        return Path(chosen)
    return Path(optional("platformdirs", "platformdirs").user_cache_dir("fastmeta"))


def keep(path: Path, write: Callable[[IO[bytes]], object]) -> bool:
    """Whether `write` could fill the cache `path`; where the place cannot be written, a warning says so."""
    with spared(path, "Its work is done on every start.", "Set FASTMETA_CACHE to a folder that can be written."):
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_beside(path, durable=True) as file:
            write(file)
        return True
    return False


def optional(module: str, package: str) -> Any:
    """An imported module of the "images" extra; ModuleNotFoundError tells how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'Images need {package}, which is not installed: pip install "fastmeta[images]".'
        ) from error
