"""A training that is interrupted, whatever by, leaves its last iteration in its checkpoint."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Protocol

from fastmeta.checks import DivergenceError
from fastmeta.learning.states import Training

ENDINGS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGXCPU") if hasattr(signal, name))


class Ended(KeyboardInterrupt):
    """The system told this process to end, by the signal `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(f"{signal.Signals(number).name}.")
        self.number = number


@contextmanager
def endings_raised(wanted: bool = True) -> Iterator[None]:
    """Signals that would end the process on the spot raise Ended within; it ends by them afterwards.

    Those that the program or its user handles or ignores are left alone, and all of them outside the main thread.
    """
    main = threading.current_thread() is threading.main_thread()
    numbers = [n for n in ENDINGS if wanted and main and signal.getsignal(n) is signal.SIG_DFL]
    process = os.getpid()

    def raise_ended(number: int, frame: Any) -> None:
        if os.getpid() == process:
            raise Ended(number)
        _end_by(number)  # in a process forked from this one

    for number in numbers:
        signal.signal(number, raise_ended)
    try:
        yield
    except Ended as ended:
        if ended.number in numbers:
            print(f"{ended} {' '.join(getattr(ended, '__notes__', ()))}".rstrip(), file=sys.stderr, flush=True)
            _end_by(ended.number)
        raise
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


class Learning(Protocol):
    """What is kept: a learner."""

    @property
    def training(self) -> Training:
        """Where training stands."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it."""


class Keeper:
    """Writes the checkpoint of a fit: after its first iteration, every so many and so often, and whatever ends it.

    What ends it is given a note that says what the file holds; a divergence leaves the file as it was. A folder that
    is gone is made again, one that was put in its place is somebody else's.
    """

    def __init__(
        self,
        learner: Learning,
        path: str | os.PathLike[str] | None,
        every: int,
        seconds: float,
        writes: Callable[[], bool] = lambda: True,
    ) -> None:
        self.learner, self.path, self.every, self.seconds, self.writes = learner, path, every, seconds, writes
        self.begin = self.kept = learner.training.step
        self.time, self.process = time.monotonic(), os.getpid()
        self.folder = None if path is None else _identity(path)

    def __enter__(self) -> Keeper:
        return self

    def keep_if_due(self) -> None:
        """Write where enough was learned, or long enough, since it was last written."""
        step = self.learner.training.step
        due = step == self.begin + 1 or step % self.every == 0
        if due or time.monotonic() - self.time >= self.seconds:
            self.keep()

    def until_due(self, step: int) -> int:
        """How many iterations after `step` enough is learned, at the latest."""
        return 1 if step == self.begin else self.every - step % self.every

    def keep(self) -> None:
        """Write."""
        if self.path is None or not self.writes():
            return
        if self.folder is not None and _identity(self.path) not in (None, self.folder):
            raise FileNotFoundError(errno.ENOENT, "Its folder was replaced in the course of the training", self.path)
        step = self.learner.training.step
        self.learner.save(self.path)
        self.kept, self.time, self.folder = step, time.monotonic(), _identity(self.path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if (
            error is None
            or self.path is None
            or not self.writes()
            or isinstance(error, DivergenceError)
            or os.getpid() != self.process
        ):
            return
        if self.learner.training.step > self.kept:
            with _undisturbed():
                try:
                    self.keep()
                except Exception as failure:  # the disk may be what ended the training
                    error.add_note(f'"{self.path}" could not be written: {failure}.')
        if os.path.exists(self.path):
            done = self.learner.training.step
            lost = "" if self.kept == done else f" of {done:,} that were done"
            error.add_note(f'"{self.path}" holds iteration {self.kept:,}{lost}, from which training can go on.')


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Whoever asks a second time for the end waits until the file is written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, *ENDINGS)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _identity(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Which folder a file lies in; None where there is none."""
    try:
        found = os.stat(os.path.dirname(os.fspath(path)) or os.curdir)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _end_by(number: int) -> None:
    """End this process by a signal, as if nobody had handled it."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    raise SystemExit(128 + number)  # where the system spares it, such as the first process of a container
