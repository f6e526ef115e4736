"""log.jsonl: the loss of every iteration of a run, and its scores on validation."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from fastmeta.cli.run_folder import RunFolder
from fastmeta_kernels.files import written_beside


class Log:
    """One line {"iteration": 1, "loss": 3.2} an iteration, nothing that depends on time; use it as a context.

    After an iteration that validation followed it has its "validation" score, too.
    A resumed run starts it from the checkpoint's history, so that it becomes that of an uninterrupted one.
    Each line reaches the system at once and outlives a killed process; a line that finds no room is not begun.
    """

    def __init__(self, folder: RunFolder, history: dict[str, NDArray[np.float64]] | None = None) -> None:
        self.path = folder.path / "log.jsonl"
        with written_beside(self.path) as file:
            file.writelines(_lines(history or {}))
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        self._size = os.fstat(self._file).st_size

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._file)

    def append(self, iteration: int, loss: float, validation: float = math.nan) -> None:
        """Add the loss of `iteration`, which counts from 1, and its score on validation where it has one.

        Raises OSError, naming the file, where there is no room, and FileNotFoundError where the file is no longer
        at its place: the folder was removed or moved.
        """
        rest = _line(iteration, loss, validation)
        size = self._size + len(rest)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
            error.filename = str(self.path)
            raise
        self._size = size
        if not (self.path.exists() and os.path.samestat(os.fstat(self._file), os.stat(self.path))):
            raise FileNotFoundError(errno.ENOENT, "The run's folder was removed or moved while it ran", str(self.path))


def _lines(history: dict[str, NDArray[np.float64]]) -> Iterator[bytes]:
    losses = history.get("loss", np.zeros(0))
    scores = history.get("validation", np.full(len(losses), np.nan))
    for place, (loss, score) in enumerate(zip(losses, scores, strict=True), 1):
        yield _line(place, float(loss), float(score))


def _line(iteration: int, loss: float, validation: float) -> bytes:
    score = {} if math.isnan(validation) else {"validation": validation}
    return (json.dumps({"iteration": iteration, "loss": loss} | score) + "\n").encode()
