"""Workers: the same bits whoever comes, after forks, with many callers, where Python ends in the middle of a call."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import fastmeta as fm
from fastmeta_kernels.cpu.execution import threads, workers

ROOT = Path(__file__).resolve().parents[3]
SINUSOIDS = 60
NETS = {"dealt": (fm.MLP((1, 40, 40, 1)), SINUSOIDS), "shared": (fm.MLP((1, 200, 200, 1)), 1)}


def gradient(name: str) -> bytes:
    """Of a call whose tasks are dealt to threads, or of one whose single task they share."""
    net, tasks = NETS[name]
    batch = fm.tasks.Sinusoid().sample(tasks, seed=0)
    return fm.meta_gradient(net, net.init(0), batch, inner_lr=0.01, device="cpu").gradient.tobytes()


@pytest.fixture
def two(monkeypatch):
    """Two threads for every call, by workers of its own; the gradients that one thread gives."""
    crew = workers.Crew()
    monkeypatch.setattr(workers, "_crew", crew)
    monkeypatch.setattr(threads, "ALONE_WORK", 0)
    monkeypatch.setenv("FASTMETA_NUM_THREADS", "1")
    alone = {name: gradient(name) for name in NETS}
    assert crew.count == 0
    monkeypatch.setenv("FASTMETA_NUM_THREADS", "2")
    return alone


@pytest.mark.parametrize("name", NETS)
def test_a_worker_that_does_not_come_is_not_waited_for(name, two, monkeypatch):
    monkeypatch.setattr(workers, "_start", lambda slot: True)  # a slot that nobody serves
    for _ in range(3):
        assert gradient(name) == two[name]
    assert workers.crew().count == 1


@pytest.mark.parametrize("name", NETS)
def test_a_system_without_threads_to_spare(name, two, monkeypatch):
    asked = []
    monkeypatch.setattr(workers, "_start", lambda slot: asked.append(slot))
    for _ in range(3):
        assert gradient(name) == two[name]
    assert len(asked) == 1
    assert len(workers.crew().boards) == 1


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts the threads of a process, as Linux shows them")
def test_twenty_forks_have_workers_of_their_own(two):
    assert gradient("dealt") == two["dealt"]
    for i in range(20):
        child = os.fork()
        if child == 0:
            before = len(os.listdir("/proc/self/task"))
            right = all(gradient(name) == two[name] for name in NETS)
            os._exit(0 if right and (before, len(os.listdir("/proc/self/task"))) == (1, 2) else 1)
        assert os.waitpid(child, 0)[1] == 0, i
    assert gradient("shared") == two["shared"]


def test_fifty_python_threads_at_once(two):
    wrong = []

    def work(i: int) -> None:
        for _ in range(3):
            name = list(NETS)[i % 2]
            if gradient(name) != two[name]:
                wrong.append(i)

    callers = [threading.Thread(target=work, args=(i,)) for i in range(50)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []
    assert workers.crew().count == 1


def test_workers_at_rest_cost_nothing(two):
    for name in NETS:
        gradient(name)
    time.sleep(0.02)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.05


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads the signals of a thread, as Linux shows them")
def test_signals_are_for_threads_of_python(two):
    before = set(os.listdir("/proc/self/task"))
    gradient("dealt")
    (worker,) = set(os.listdir("/proc/self/task")) - before
    end = time.monotonic() + 20
    blocked = -1
    while blocked >> (signal.SIGSEGV - 1) & 1 and time.monotonic() < end:  # all are, until the system starts it
        status = Path(f"/proc/self/task/{worker}/status").read_text()
        blocked = int(status.split("SigBlk:")[1].split()[0], 16)
    assert blocked >> (signal.SIGINT - 1) & 1
    assert not blocked >> (signal.SIGSEGV - 1) & 1
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())  # of this thread


class Interrupted(Exception):
    """What a handler of a signal raises."""


def interrupted(at: int, name: str) -> bool:
    """Call with an exception at a line of what runs in workers.py; whether it has so many."""
    left = at

    def trace(frame, event, argument):
        nonlocal left
        if frame.f_code.co_filename != workers.__file__:
            return None
        left -= event == "line"
        if left < 0:
            sys.settrace(None)
            raise Interrupted
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        gradient(name)
    except Interrupted:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts the threads of a process, as Linux shows them")
def test_an_interruption_at_any_line_leaves_one_thread_a_slot(two, monkeypatch):
    gradient("dealt")  # whatever is compiled once
    lines = 0
    more = True
    while more:
        monkeypatch.setattr(workers, "_crew", workers.Crew())
        before = len(os.listdir("/proc/self/task"))
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        more = interrupted(lines, "dealt")
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)  # one line restores it, and that may be the one
        for _ in range(3):
            assert gradient("dealt") == two["dealt"], lines
        assert len(os.listdir("/proc/self/task")) == before + 1, lines
        assert workers.crew().count == 1
        lines += 1
    assert lines > 30


EXITS = f"""
import os, random, sys, threading, time
import fastmeta as fm
sys.path.insert(0, {str(ROOT)!r})
from fastmeta_kernels.cpu.execution import call, threads
from tests.kernels.cpu.test_workers import NETS, gradient

def work(ready):
    for name in NETS:
        gradient(name)
    kept = list(call._local.calls.values())
    ready.release()
    while True:  # nothing but calls: NumPy's own code cannot be cut off
        for one in kept:
            threads.launch(one.work)

threads.ALONE_WORK = 0
for name in NETS:
    gradient(name)
for i in range(int(sys.argv[1])):
    child = os.fork()
    if child == 0:
        ready, count = threading.Semaphore(0), 1 + i % 3
        for _ in range(count):
            threading.Thread(target=work, args=(ready,), daemon=True).start()
        for _ in range(count):
            ready.acquire()
        time.sleep(random.Random(i).uniform(0, 0.01))
        sys.exit(0)
    status = os.waitpid(child, 0)[1]
    if status:
        sys.exit(f"exit {{i}} ended with status {{status}}")
"""


@pytest.mark.parametrize("exits", [10, pytest.param(1000, marks=pytest.mark.slow)])
def test_python_ends_in_the_middle_of_a_call(exits):
    paths = f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"
    environment = os.environ | {"PYTHONPATH": paths, "FASTMETA_NUM_THREADS": "2"}
    command = [sys.executable, "-W", "ignore", "-c", EXITS, str(exits)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60 + 2 * exits)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_call_that_is_interrupted_leaves_its_workers_whole(two):
    """A signal reaches Python once the call is done; the next one has its worker again."""

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    count = 0
    try:
        for delay in np.linspace(1e-4, 3e-3, 20):
            end = time.monotonic() + 1
            try:
                signal.setitimer(signal.ITIMER_REAL, delay)
                while time.monotonic() < end:
                    gradient("shared")
            except Interrupted:
                count += 1
    finally:
        signal.signal(signal.SIGALRM, before)
    assert count > 10  # Python drops one that comes in the callback of a weak reference
    for name in NETS:
        assert gradient(name) == two[name]
