"""Machine code on disk, read only where it is whole, of these very sources, and nobody else can have written it.

An entry is a pickle, and unpickling runs whatever program is in it; a flipped bit of machine code runs as well.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import stat
from functools import lru_cache
from typing import Any

from numba.core import config
from numba.core.caching import CompileResultCacheImpl, FunctionCache, UserWideCacheLocator
from numba.core.runtime import rtsys
from numba.core.serialize import dumps

from fastmeta_kernels.files import spared, warn, written_beside

COST = "The kernels are compiled at every start."
CURE = "Set NUMBA_CACHE_DIR to a folder of your own."


class KernelCache(FunctionCache):
    """Numba's cache of a function, found without what Numba loads to compile: a fifth of a second for a new process.

    `stamp` is a hash of whatever decides the machine code; entries of another one are not there.
    """

    def __init__(self, function: Any, stamp: str) -> None:
        self._name, self._py_func = repr(function), function
        self._impl = _Function(function, stamp)
        self._cache_path = self._impl.locator.get_cache_path()
        self._place = os.path.dirname(self._cache_path)
        self._entries = Entries(self._cache_path, self._impl.filename_base, stamp)
        self.enable()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function, None where there is none."""
        rtsys.initialize(target_context)
        key = self._index_key(sig, target_context.codegen())
        with spared(self._place, COST, CURE):
            data = self._entries.load(key)
            return None if data is None else self._impl.rebuild(target_context, data)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled function, where there is room and a place for it."""
        if self._impl.check_cachable(data):
            with spared(self._place, COST, CURE):
                self._entries.save(self._index_key(sig, data.codegen), self._impl.reduce(data))


class Entries:
    """The files of one function: NAME.nbi lists its entries, of a signature and processor each, in NAME.HASH.nbc."""

    def __init__(self, folder: str, name: str, stamp: str) -> None:
        self.folder, self.name = folder, name
        self.stamp = stamp.encode()

    def load(self, key: Any) -> Any:
        """The value of `key`; None where there is none, or none that can be trusted."""
        name = self._entry(key)
        if refusal(self.folder) or name not in self._index():
            return None
        content = self._read(name)
        try:
            return None if content is None else pickle.loads(content)
        except Exception as error:  # whole, but of other libraries
            self._drop(name, str(error))
            return None

    def save(self, key: Any, value: Any) -> None:
        """Keep `value`; raises OSError where it cannot be written."""
        if refusal(self.folder):
            return
        os.makedirs(os.path.dirname(self.folder), 0o700, exist_ok=True)
        os.makedirs(self.folder, 0o700, exist_ok=True)
        name = self._entry(key)
        self._write(name, dumps(value))
        self._write(f"{self.name}.nbi", json.dumps(sorted(self._index() | {name})).encode())

    def _entry(self, key: Any) -> str:
        return f"{self.name}.{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.nbc"

    def _index(self) -> set[str]:
        content = self._read(f"{self.name}.nbi")
        return set() if content is None else set(json.loads(content))

    def _read(self, name: str) -> bytes | None:
        """What `_write` wrote under this name for this stamp; None where it is not there."""
        try:
            with open(os.path.join(self.folder, name), "rb", opener=_opened) as file:
                why = _refusal(os.fstat(file.fileno()))
                digest, stamp, content = (b"",) * 3 if why else (file.read(32), file.read(len(self.stamp)), file.read())
        except FileNotFoundError:
            return None
        if not why and digest != self._digest(name, stamp + content):
            why = "is cut short or damaged"
        if why:
            self._drop(name, why)
        return None if why or stamp != self.stamp else content

    def _write(self, name: str, content: bytes) -> None:
        with written_beside(os.path.join(self.folder, name), mode=0o600) as file:
            file.write(self._digest(name, self.stamp + content) + self.stamp + content)

    def _digest(self, name: str, content: bytes) -> bytes:
        return hashlib.sha256(name.encode() + content).digest()

    def _drop(self, name: str, why: str) -> None:
        path = os.path.join(self.folder, name)
        warn(f'The entry "{path}" of the kernel cache {why}: it is dropped, and its kernels are compiled anew.')
        os.remove(path)


class _Locator(UserWideCacheLocator):
    """A folder of this package in the user's cache for Numba, or in NUMBA_CACHE_DIR."""

    def __init__(self, function: Any, file: str, stamp: str) -> None:
        super().__init__(function, file)
        self._stamp = stamp
        if config.CACHE_DIR:
            self._cache_path = os.path.join(config.CACHE_DIR, self.get_suitable_cache_subpath(file))

    def get_source_stamp(self) -> str:
        return self._stamp


class _Function(CompileResultCacheImpl):
    def __init__(self, function: Any, stamp: str) -> None:
        file = function.__code__.co_filename
        self._locator = _Locator(function, file, stamp)
        self._lineno = function.__code__.co_firstlineno
        module = os.path.splitext(os.path.basename(file))[0]
        self._filename_base = self.get_filename_base(f"{module}.{function.__qualname__}", "")


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe would wait for its writer


@lru_cache
def refusal(folder: str) -> bool:
    """Whether others may have written to a cache folder, which a warning then says."""
    if folder.startswith("~"):  # as Python leaves the home of a user whom the system does not know
        raise FileNotFoundError(errno.ENOENT, "there is no home folder")
    for place, shared in ((os.path.dirname(folder), True), (folder, False)):
        try:
            why = _refusal(os.stat(place), shared)
        except FileNotFoundError:
            why = ""
        if why:
            warn(
                f'The kernel cache "{place}" {why}, and what they put there would run: it is not read. {COST} '
                f"Remove it and make it anew for yourself alone (mode 700). {CURE}"
            )
            return True
    return False


def _refusal(status: os.stat_result, shared: bool = False) -> str:
    """Why a file or folder may be another user's work; `shared` folders keep one user's names from the others."""
    kept = shared and status.st_mode & stat.S_ISVTX
    if status.st_uid not in (os.geteuid(), 0):
        return "belongs to another user"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not kept:
        return "can be written by other users"
    return "" if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) else "is no plain file"
