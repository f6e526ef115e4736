"""A program as the runner sees it: a worker process that answers requests, one at a time."""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "FASTMETA_NUM_THREADS",
)


def environment(threads: int, device: str, folder: Path, root: Path = ROOT) -> dict[str, str]:
    """Variables of every program: its threads, where it computes, whose sources, caches that belong to this run."""
    variables = os.environ | dict.fromkeys(_THREAD_VARIABLES, str(threads))
    return variables | {
        "PYTHONPATH": os.pathsep.join(map(str, (root, root / "kernels"))),
        "JAX_PLATFORMS": device,
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "NUMBA_CACHE_DIR": str(folder / "numba"),
        "CUPY_CACHE_DIR": str(folder / "cupy"),
    }


class ProgramError(RuntimeError):
    """A program is not installed, failed or took too long; the message says which."""


class Program:
    """One variant of fastmeta or of a peer, started in `python` with `threads` threads and one dtype, on a device.

    root: the folder of the sources, of this commit or of another. `start` is the time from nothing to the framework
    imported. Raises ProgramError where that fails.
    """

    def __init__(
        self,
        python: str,
        name: str,
        variant: str,
        dtype: str,
        threads: int,
        device: str,
        folder: Path,
        limit: float = 600.0,
        root: Path = ROOT,
    ) -> None:
        self.folder, self.limit = folder, limit
        command: Sequence[str] = (python, "-m", "benchmarks.worker", name, variant, dtype, str(threads), device)
        self._errors = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by `close`)
        begin = time.perf_counter()
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                cwd=root,
                env=environment(threads, device, folder, root),
                bufsize=0,
            )
        except OSError as error:
            self._errors.close()
            raise ProgramError(f"cannot start its Python: {error.strerror}") from None
        first = self._answer()
        self.start = time.perf_counter() - begin
        if "missing" in first:
            self.close()
            raise ProgramError(f"not installed ({first['missing']})")
        self.versions: dict[str, str] = first["versions"]

    def ask(self, do: str, **arguments: Any) -> Any:
        """The answer to one request of `benchmarks.worker`."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write((json.dumps({"do": do} | arguments) + "\n").encode())
        except BrokenPipeError:
            self._fail()
        return self._answer()

    def close(self) -> None:
        """End the process; what it holds is lost."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line, end = b"", time.monotonic() + self.limit
        while not line.endswith(b"\n"):
            if not select.select([self._process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                self.close()
                raise ProgramError(f"no answer in {self.limit:g} s")
            piece = os.read(self._process.stdout.fileno(), 1 << 16)
            if not piece:
                self._fail()
            line += piece
        return json.loads(line)

    def _fail(self) -> None:
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        code = self._process.returncode
        self.close()
        raise ProgramError(f"failed: {lines[-1] if lines else f'exit status {code}'}"[:160])
