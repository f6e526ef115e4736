"""log.jsonl: the loss of every iteration of a run, what else its learner measured, and its scores on validation."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from fastmeta.cli.run_folder import RunFolder
from fastmeta_kernels.files import written_beside


class Log:
    """One line {"iteration": 1, "loss": 3.2} an iteration, nothing that depends on time; use it as a context.

    A learner of policies adds what it measured, such as "kl"; after an iteration that validation followed there is its
    "validation" score, too.
    A resumed run starts it from the checkpoint's history, so that it becomes that of an uninterrupted one.
    Each line reaches the system at once and outlives a killed process; a line that finds no room is not begun.
    """

    def __init__(self, folder: RunFolder, history: Mapping[str, NDArray[np.float64]] | None = None) -> None:
        self.path = folder.path / "log.jsonl"
        with written_beside(self.path) as file:
            count = len(history["loss"]) if history else 0
            file.writelines(_line(i + 1, measured(history or {}, i)) for i in range(count))
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        self._size = os.fstat(self._file).st_size

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._file)

    def append(self, iteration: int, values: dict[str, float]) -> None:
        """Add the loss, and what else there is, of `iteration`, which counts from 1.

        Raises OSError, naming the file, where there is no room, and FileNotFoundError where the file is no longer
        at its place: the folder was removed or moved.
        """
        rest = _line(iteration, values)
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


def measured(history: Mapping[str, NDArray[np.float64]], i: int) -> dict[str, float]:
    """What a history says of its i-th iteration, counted from 0: neither times nor what was not measured then."""
    names = sorted((n for n in history if not n.startswith("seconds")), key=lambda name: (name != "loss", name))
    return {name: float(history[name][i]) for name in names if not math.isnan(history[name][i])}


def _line(iteration: int, values: dict[str, float]) -> bytes:
    return (json.dumps({"iteration": iteration, **values}) + "\n").encode()
