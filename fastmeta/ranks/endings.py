"""Signals that end a training on many ranks: noted, and obeyed by all of them at one place."""

from __future__ import annotations

import signal
import threading
from types import TracebackType
from typing import Any

NUMBERS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGXCPU") if hasattr(signal, name))


class Endings:
    """A context in which signals to end are only noted, as `noted`; `obey` lets one do what it did outside.

    One that nobody has obeyed within is delivered again by `deliver`, when all contexts are left.
    """

    def __init__(self) -> None:
        self.noted = 0
        self._depth = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Endings:
        self._depth += 1
        if self._depth == 1 and threading.current_thread() is threading.main_thread():
            handled = [n for n in NUMBERS if signal.getsignal(n) not in (signal.SIG_IGN, None)]
            self._before = {number: signal.signal(number, self._note) for number in handled}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if not self._depth:
            self._restore()

    def obey(self, number: int) -> None:
        """End by a signal as this process would have outside; by KeyboardInterrupt where it lets that pass."""
        self.noted = 0
        if number in self._restore():
            signal.raise_signal(number)
        raise KeyboardInterrupt

    def deliver(self) -> None:
        """Let a signal that was noted too late for the others do what it does outside."""
        number, self.noted = (0, self.noted) if self._depth else (self.noted, 0)
        if number:
            signal.raise_signal(number)

    def _restore(self) -> dict[int, Any]:
        before, self._before = self._before, {}
        for number, handler in before.items():
            signal.signal(number, handler)
        return before

    def _note(self, number: int, frame: Any) -> None:
        if self.noted:  # whoever asks a second time does not wait for the others
            self.obey(number)
        self.noted = number
