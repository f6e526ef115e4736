"""Workers: threads of our own, which carry out parts of a call beside the thread that makes it.

A call is written on a board and offered to workers at rest. The calling thread takes parts itself until none is left,
then takes back what no worker has begun: it waits only for work that is being done. A worker at rest looks for
offers for a moment, then sleeps. Threads of the system, not of Python: they run one compiled function, `serve`, and
end with the process; a forked process begins with none and makes its own.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.cpu.layout.job import Workspace, address, integers_at
from fastmeta_kernels.cpu.machine import semaphore
from fastmeta_kernels.cpu.machine.atomic import fetch_add, pause, read, replace
from fastmeta_kernels.cpu.machine.clock import nanoseconds
from fastmeta_kernels.cpu.machine.compiler import types
from fastmeta_kernels.cpu.machine.jit import call_address, kernel, symbol
from fastmeta_kernels.cpu.machine.semaphore import post, take, wait

LINE = 64  # bytes of a cache line: each word that threads write has one for itself
MOST = 256  # threads of a call
LOOKS, PATIENCE = 100, 50_000  # from one look at the clock to the next, and ns of looking until a thread sleeps

# A board: what to run, a semaphore on which its workers leave, how many have joined, then the counters of the work.
FUNCTION, WORKSPACES, JOBS, PARTS = range(4)
LEFT, JOINED, COUNTERS = LINE, 2 * LINE, 3 * LINE
# A slot, one a worker: 0 at rest, the board that is offered, or it + 1 when its work is being done; then a semaphore,
# and the system's name of the thread that serves it.
SLOT, WOKEN, SERVED = 3 * LINE, LINE, 2 * LINE


@kernel
def _work(board, part):
    letter = integers_at(board, 0, 4)
    function, parts = letter[FUNCTION], letter[PARTS]
    call_address(function, letter[WORKSPACES], letter[JOBS], part, parts, board + COUNTERS)


@kernel
def _rest(slot):
    """Look for an offer, then sleep until one comes."""
    looks, begun = 0, nanoseconds()
    while read(slot) == 0:
        looks += 1
        if looks % LOOKS == 0 and nanoseconds() - begun >= PATIENCE:
            wait(slot + WOKEN)
            while take(slot + WOKEN) == 0:  # of offers that were seen without it
                pass
            begun = nanoseconds()
        pause()


def _serve(slot):
    while read(slot) >= 0:
        _rest(slot)
        board = read(slot)
        if board > 0 and replace(slot, board, board + 1):
            _work(board, fetch_add(board + JOINED, 1) + 1)
            replace(slot, board + 1, 0)
            post(board + LEFT)


@kernel
def _wait_for_one(board):
    """Until one more worker has left a board."""
    looks, begun = 0, nanoseconds()
    while take(board + LEFT) != 0:
        looks += 1
        if looks % LOOKS == 0 and nanoseconds() - begun >= PATIENCE and wait(board + LEFT) == 0:
            return
        pause()


def _lead(board, slots, count):
    """Carry out what a board says, as its part 0, with those of `count` workers that are at rest."""
    parts = integers_at(board, 0, 4)[PARTS]
    for i in range(parts + 2):
        integers_at(board + JOINED + i * LINE, 0, 1)[0] = 0
    begun, end = 0, 0
    while end < count and begun < parts - 1:
        slot = slots + end * SLOT
        if replace(slot, 0, board):
            post(slot + WOKEN)
            begun += 1
        end += 1
    _work(board, 0)
    for i in range(end):
        if replace(slots + i * SLOT, board, 0):  # it has not begun
            begun -= 1
    for _ in range(begun):
        _wait_for_one(board)


lead = kernel(_lead)


class Board(NamedTuple):
    """The words of a call that threads share, and where they lie."""

    words: NDArray[np.int64]
    at: int


class Crew:
    """The workers of this process; they are hired when a call first wants them, and wait for ever after."""

    def __init__(self) -> None:
        self.slots = _lines(MOST * SLOT // LINE)
        self.at, self.count = address(self.slots), 0
        self.most = MOST - 1
        self.lead: Any = None
        self.boards: list[Board] = []  # at rest
        self.lock = threading.Lock()

    def run(self, function: int, workspaces: Workspace, jobs: int, parts: int, lead: Any = None) -> Any:
        """Run the kernel (workspaces, jobs, part, parts, counters) at an address, one part in the calling thread.

        lead: what calls `lead` with these (board, slots, workers), by default once; what it returns. A thread that
        Python cuts off in here, as it ends, keeps the workspaces that workers are still in.
        """
        if min(parts - 1, self.most) > self.count or self.lead is None:
            self._hire(parts - 1)
        try:
            board = self.boards.pop()
        except IndexError:
            board = self._board()
        letter = board.words
        letter[FUNCTION] = function
        letter[WORKSPACES] = workspaces.at
        letter[JOBS] = jobs
        letter[PARTS] = parts
        done = (lead or self.lead)(board.at, self.at, self.count)
        self.boards.append(board)
        return done

    def _board(self) -> Board:
        words = _lines(COUNTERS // LINE + 1 + MOST)
        semaphore.make(address(words) + LEFT)
        return Board(words, address(words))

    def _hire(self, count: int) -> None:
        """Have `count` workers, or as many as the system allows.

        A signal may interrupt this anywhere: whether a slot has its thread already stands in the slot itself.
        """
        with self.lock:
            self.lead = _functions()[0]
            while self.count < min(count, self.most):
                slot = self.count * SLOT
                if self.slots[(slot + SERVED) // 8] or _start(self.at + slot):
                    self.count += 1
                else:
                    self.most = self.count


def _lines(count: int) -> NDArray[np.int64]:
    """Zeroed cache lines that are never freed: to the end of the process a thread may look at them."""
    raw = np.zeros((count + 1) * LINE // 8, np.int64)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(raw))
    start = -address(raw) % LINE // 8
    return raw[start : start + count * LINE // 8]


@cache
def _functions() -> tuple[Any, int]:
    """`lead` as a C function, and the address of `serve`.

    Python, as it ends, may cut a thread off that comes back from C, but not one that comes back from Numba's C++.
    """
    word, kind = ctypes.c_int64, types.int64
    lead = symbol("fastmeta_lead", types.void(kind, kind, kind), _lead)
    return ctypes.CFUNCTYPE(None, word, word, word)(lead), symbol("fastmeta_serve", types.void(kind), _serve)


def _start(slot: int) -> bool:
    """A thread that serves a slot; it takes no signals, which are for threads of Python."""
    if not semaphore.make(slot + WOKEN):
        return False
    library = ctypes.CDLL(None)
    create, detach = library.pthread_create, library.pthread_detach
    create.argtypes = (ctypes.c_void_p,) * 4
    detach.argtypes = (ctypes.c_void_p,)
    thread = ctypes.c_void_p.from_address(slot + SERVED)
    faults = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - faults)
        if create(ctypes.byref(thread), None, _functions()[1], slot) != 0:
            thread.value = 0
            return False
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    detach(thread)
    return True


_crew = Crew()


def crew() -> Crew:
    """The workers of this process."""
    return _crew


def _begin() -> None:
    global _crew
    _crew = Crew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin)
