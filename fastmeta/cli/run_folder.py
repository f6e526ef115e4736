"""A run on disk: config.json, log.jsonl, checkpoint.safetensors, score.json and plots; one process writes to it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fastmeta.cli.lock import locked
from fastmeta.cli.stored import Stored, checked, parsed
from fastmeta_kernels.files import leftovers, written_beside

Json = dict[str, Any]
_NUMBERS = re.compile(r"\[[^\[\]{}\"]*\]")  # a list of numbers stands on one line
_ROW = {"shots", "inner_steps", "part", "measure", "batch_norm", "algorithm", "text"}


class RunFolder:
    """The files of one training run under `path`; nothing is read or written before it is asked for."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoint = self.path / "checkpoint.safetensors"
        self._config = self.path / "config.json"
        self._log = self.path / "log.jsonl"

    @contextmanager
    def owned(self, config: Json, resume: bool = False) -> Iterator[None]:
        """Make the folder and its config.json; within, no other process trains in it.

        ValueError, with no file touched, where another does or, unless `resume`, where a run is in it. What fails
        before there is a checkpoint leaves the folder as it was; where it was taken away, a checkpoint that was
        written since is given its config.json again.
        """
        self._refuse(resume)
        new = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise ValueError(f'out="{self.path}" must be a place for a folder: {error}. Name another.') from error
        ours = os.stat(self.path)
        try:
            with locked(self.path / "run.lock", f'out="{self.path}"'):
                self._refuse(resume)
                for left in leftovers(self.path):
                    os.remove(left)
                try:
                    self.write("config.json", config)
                    yield
                except BaseException:
                    if self.checkpoint.exists() and not self._config.exists():
                        self.write("config.json", config)
                    elif not self.checkpoint.exists() and not resume and self._is(ours):
                        self._config.unlink(missing_ok=True)
                        self._log.unlink(missing_ok=True)
                    raise
        finally:
            for folder in new if self._is(ours) else ():
                with suppress(OSError):  # it holds something
                    folder.rmdir()

    def config(self) -> Stored:
        """The settings of the run; FileNotFoundError where there is none, ValueError where they make no sense."""
        if not self._config.is_file():
            raise FileNotFoundError(
                f'run="{self.path}" must be a run folder, with a config.json. `fastmeta train` writes one.'
            )
        return checked(self._config, parsed(self._config))

    def scores(self, name: str = "score") -> list[Json]:
        """The rows of NAME.json; FileNotFoundError or ValueError where it is absent or no table of scores."""
        path = self.path / f"{name}.json"
        if not path.is_file():
            raise FileNotFoundError(
                f'run="{self.path}" must hold {path.name}. `fastmeta train` writes score.json at its end, '
                "`fastmeta evaluate RUN --save NAME` any other."
            )
        try:
            rows = [dict(row) for row in parsed(path)["scores"]]
            for row in rows:
                if lacking := sorted(_ROW - row.keys()):
                    raise KeyError(lacking[0])
            return rows
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} must be a table of scores: {error!r}. Evaluate the run again.") from error

    def write(self, name: str, content: Json) -> None:
        """`content` as JSON in the file `name`: the old file or the whole new one, whatever happens."""
        text = json.dumps(content, indent=2)
        self.write_text(name, _NUMBERS.sub(lambda found: " ".join(found[0].split()), text) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """`text` in the file `name`, likewise."""
        with written_beside(self.path / name, durable=True) as file:
            file.write(text.encode())

    def _refuse(self, resume: bool) -> None:
        """ValueError where a new run would write over something: but for a start that failed before it learned."""
        if resume:
            return
        if self.checkpoint.exists():
            raise ValueError(
                f'out="{self.path}" must not hold a run yet. Add --resume to go on, or name another folder.'
            )
        for path in (self._config, self._log):
            if path.exists() and not self._began_here():
                raise ValueError(f'out="{self.path}" must not hold a {path.name} of another program. Name another.')

    def _began_here(self) -> bool:
        """Whether config.json is fastmeta's."""
        try:
            return bool({"fastmeta", "problem"} <= parsed(self._config).keys())
        except (OSError, ValueError):
            return False

    def _is(self, folder: os.stat_result) -> bool:
        """Whether this path is still that folder."""
        return self.path.exists() and os.path.samestat(folder, os.stat(self.path))
