"""Whatever ends a training: the checkpoint holds what memory holds, and something says so."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest

import fastmeta as fm

SINE = fm.tasks.Sinusoid(5, 5)
PROGRAM = """
import os, signal, sys, threading
import fastmeta as fm
def callback(iteration, loss):
    if iteration == 7:
        {what}
learner = fm.MAML(fm.MLP((1, 8, 1)), device="numpy")
learner.fit(fm.tasks.Sinusoid(5, 5), 12, checkpoint=sys.argv[1], checkpoint_every=5, callback=callback)
print("whole")
"""


def maml() -> fm.MAML:
    return fm.MAML(fm.MLP((1, 8, 1)), device="numpy")


def at_seven(do):
    return lambda iteration, loss: do() if iteration == 7 else None


def fails(error: BaseException):
    def do():
        raise error

    return do


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mine"),
        OSError(28, "No space left on device", "log"),
        KeyboardInterrupt(),
        SystemExit(3),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_in_a_callback_keeps_the_iteration_and_names_the_file(tmp_path, error):
    path = tmp_path / "run"
    learner = maml()
    with pytest.raises(type(error)) as caught:
        learner.fit(SINE, 12, checkpoint=path, checkpoint_every=5, callback=at_seven(fails(error)))
    assert caught.value.__notes__ == [f'"{path}" holds iteration 7, from which training can go on.']
    assert fm.load(path).training.step == learner.training.step == 7
    whole, resumed = maml().fit(SINE, 12), maml().fit(SINE, 12, checkpoint=path, resume=True)
    assert whole.theta.tobytes() == resumed.theta.tobytes()


class Ending:
    """Tasks that end at the eighth batch."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def sample(self, tasks: int, seed: int, step: int = 0) -> fm.Batch:
        if step == 7:
            raise self.error
        return SINE.sample(tasks, seed, step)


@pytest.mark.parametrize("error", [OSError("the file of images is gone"), ValueError("odd"), StopIteration()])
def test_tasks_that_end_keep_the_iteration(tmp_path, error):
    with pytest.raises(type(error)):
        maml().fit(Ending(error), 12, checkpoint=tmp_path / "run")
    assert fm.load(tmp_path / "run").training.step == 7


def test_what_fails_before_anything_is_learned_leaves_no_file(tmp_path):
    class Never:
        def sample(self, tasks, seed, step=0):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        maml().fit(Never(), 12, checkpoint=tmp_path / "run")
    assert os.listdir(tmp_path) == []


def test_a_full_disk_keeps_the_last_file_and_names_it(tmp_path):
    path = tmp_path / "run"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    full = at_seven(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1])))
    try:
        with pytest.raises(OSError, match=f"File too large: '{path}'") as caught:
            maml().fit(SINE, 30, checkpoint=path, checkpoint_every=5, callback=full)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, previous)
    assert (
        caught.value.__notes__[-1] == f'"{path}" holds iteration 5 of 10 that were done, from which training can go on.'
    )
    assert fm.load(path).training.step == 5
    assert os.listdir(tmp_path) == ["run"]


def end(number: str) -> str:
    return f"os.kill(os.getpid(), signal.{number})"


@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP", "SIGXCPU"])
def test_a_program_that_is_told_to_end_keeps_the_iteration_and_ends_by_the_signal(tmp_path, number):
    done = python(end(number), tmp_path / "run")
    assert done.returncode == -getattr(signal, number)
    assert done.stderr == f'{number}. "{tmp_path / "run"}" holds iteration 7, from which training can go on.\n'
    assert fm.load(tmp_path / "run").training.step == 7


def test_told_twice_it_still_keeps_the_iteration(tmp_path):
    kill = "[os.kill(os.getpid(), number) for number in (2, 15)]"
    twice = f"save = type(learner).save; type(learner).save = lambda *a: ({kill}, save(*a))"
    done = python(f"{twice}; {end('SIGTERM')}", tmp_path / "run")
    assert done.returncode == -signal.SIGTERM
    assert fm.load(tmp_path / "run").training.step == 7


@pytest.mark.parametrize(
    ("first", "code", "step"),
    [
        ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", 0, 12),
        ("signal.signal(signal.SIGTERM, lambda *a: sys.exit(9))", 9, 7),
        ("signal.signal(signal.SIGTERM, signal.default_int_handler)", -signal.SIGINT, 7),
    ],
)
def test_a_signal_that_the_program_handles_is_the_programs(tmp_path, first, code, step):
    done = python(end("SIGTERM"), tmp_path / "run", first)
    assert done.returncode == code, done.stderr
    assert fm.load(tmp_path / "run").training.step == step


def test_a_forked_process_that_is_ended_writes_nothing(tmp_path):
    path = tmp_path / "run"
    child = "import multiprocessing as mp, time; c = mp.get_context('fork').Process(target=time.sleep, args=(60,));"
    child += "c.start(); time.sleep(0.2); c.terminate(); c.join(); print(c.exitcode)"
    done = python(child, path)
    assert (done.stdout, done.stderr) == ("-15\nwhole\n", "")
    assert fm.load(path).training.step == 12


def test_other_threads_train_and_signals_are_as_before(tmp_path):
    import threading

    thread = threading.Thread(target=lambda: maml().fit(SINE, 3, checkpoint=tmp_path / "run"))
    thread.start()
    thread.join()
    assert fm.load(tmp_path / "run").training.step == 3
    maml().fit(SINE, 3, checkpoint=tmp_path / "other")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_checkpoints_are_written_by_time_too(tmp_path, monkeypatch):
    now, written = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    learner = maml()
    monkeypatch.setattr(learner, "save", lambda path: written.append(learner.training.step))

    def minutes(iteration, loss):
        now[0] += 60

    learner.fit(SINE, 12, checkpoint=tmp_path / "run", checkpoint_every=100, callback=minutes)
    assert written == [1, 6, 11, 12]
    written.clear()
    learner.fit(SINE, 12, checkpoint=tmp_path / "run", checkpoint_every=4, checkpoint_seconds=180, callback=minutes)
    assert written == [1, 4, 7, 8, 11, 12]


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), "5"])
def test_seconds_between_checkpoints_are_checked(seconds):
    with pytest.raises((ValueError, TypeError), match="checkpoint_seconds="):
        maml().fit(SINE, 1, checkpoint_seconds=seconds)


@pytest.mark.parametrize("iterations", [10**15, 10**22])
def test_more_iterations_than_memory_are_refused_by_name(iterations):
    with pytest.raises(MemoryError, match=f"iterations={iterations} must be so few"):
        maml().fit(SINE, iterations)


def test_a_folder_that_is_gone_is_made_again(tmp_path):
    path = tmp_path / "folder" / "run"
    maml().fit(SINE, 12, checkpoint=path, checkpoint_every=5, callback=at_seven(lambda: shutil.rmtree(path.parent)))
    assert fm.load(path).training.step == 12


def test_a_folder_that_another_put_in_its_place_is_left_alone(tmp_path):
    path = tmp_path / "folder" / "run"

    def replace():
        os.rename(path.parent, tmp_path / "old")
        path.parent.mkdir()

    with pytest.raises(FileNotFoundError, match="Its folder was replaced") as caught:
        maml().fit(SINE, 12, checkpoint=path, checkpoint_every=5, callback=at_seven(replace))
    assert "could not be written" in caught.value.__notes__[0]
    assert os.listdir(path.parent) == []
    assert fm.load(tmp_path / "old" / "run").training.step == 5


def python(what: str, path: os.PathLike[str], first: str = "pass") -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(what=what).replace("learner = ", f"{first}\nlearner = ", 1)
    listen = lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)  # noqa: E731  which nohup has ignored
    command = [sys.executable, "-c", program, str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, preexec_fn=listen)
