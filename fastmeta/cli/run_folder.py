"""A run on disk: config.json, log.jsonl, checkpoint.safetensors, score.json and plots."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

Json = dict[str, Any]
_NUMBERS = re.compile(r"\[[^\[\]{}\"]*\]")  # a list of numbers stands on one line


class RunFolder:
    """The files of one training run under `path`; nothing is read or written before it is asked for."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoint = self.path / "checkpoint.safetensors"

    def start(self, config: Json, resume: bool = False) -> None:
        """Make the folder and its config.json; ValueError where a run is in it, unless `resume`."""
        if not resume and (self.checkpoint.exists() or (self.path / "config.json").exists()):
            raise ValueError(
                f'out="{self.path}" must not hold a run yet. Add --resume to go on, or name another folder.'
            )
        self.path.mkdir(parents=True, exist_ok=True)
        self.write("config.json", config)

    def config(self) -> Json:
        """What `start` stored; FileNotFoundError where there is no run."""
        path = self.path / "config.json"
        if not path.is_file():
            raise FileNotFoundError(
                f'run="{self.path}" must be a run folder, with a config.json. `fastmeta train` writes one.'
            )
        try:
            config = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} must be JSON: {error}. Restore it or start a new run.") from error
        if not isinstance(config, dict) or "problem" not in config:
            raise ValueError(f"{path} must be an object with a problem. Restore it or start a new run.")
        return config

    def scores(self, name: str = "score") -> list[Json]:
        """The rows of NAME.json; FileNotFoundError or ValueError where it is absent or no table of scores."""
        path = self.path / f"{name}.json"
        if not path.is_file():
            raise FileNotFoundError(
                f'run="{self.path}" must hold {path.name}. `fastmeta train` writes score.json at its end, '
                "`fastmeta evaluate RUN --save NAME` any other."
            )
        try:
            rows = json.loads(path.read_text("utf-8"))["scores"]
            return [dict(row) for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} must be a table of scores: {error!r}. Evaluate the run again.") from error

    def write(self, name: str, content: Json) -> None:
        """`content` as JSON in the file `name`: the old file or the whole new one, whatever happens."""
        temporary = self.path / (name + ".tmp")
        with open(temporary, "w", encoding="utf-8") as file:
            text = json.dumps(content, indent=2)
            file.write(_NUMBERS.sub(lambda found: " ".join(found[0].split()), text) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path / name)


class Log:
    """log.jsonl: one line {"iteration": 1, "loss": 3.2} an iteration, nothing that depends on time.

    A resumed run starts it from the checkpoint's losses, so that it becomes that of an uninterrupted one.
    Each line reaches the system at once and outlives a killed process.
    """

    def __init__(self, folder: RunFolder, losses: NDArray[np.float64] | None = None) -> None:
        self.path = folder.path / "log.jsonl"
        temporary = folder.path / "log.jsonl.tmp"
        with open(temporary, "w", encoding="utf-8") as file:
            file.writelines(_line(i, float(loss)) for i, loss in enumerate(() if losses is None else losses, 1))
        os.replace(temporary, self.path)
        self._file: TextIO = open(self.path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115

    def append(self, iteration: int, loss: float) -> None:
        """Add the loss of `iteration`, which counts from 1."""
        self._file.write(_line(iteration, loss))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _line(iteration: int, loss: float) -> str:
    return json.dumps({"iteration": iteration, "loss": loss}) + "\n"
