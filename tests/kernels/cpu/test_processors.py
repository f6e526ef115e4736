"""What a process may use of a shared machine, and when it uses one thread of it."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest

import fastmeta as fm
from fastmeta_kernels.cpu.execution import threads, workers
from fastmeta_kernels.cpu.machine import processors


@pytest.mark.parametrize(
    ("own", "files", "share"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "20000 10000\n", "cpu.max": ""}, 2.0),
        ("0::/a/b\n", {"a/b/cpu.max": "50000 100000\n", "a/cpu.max": "200000 100000\n"}, 0.5),
        ("0::/elsewhere\n", {"cpu.max": "300000 100000\n"}, 3.0),  # the folder of a container is its root
        ("4:cpu,cpuacct:/x\n", {"cpu,cpuacct/x/cpu.cfs_quota_us": "25", "cpu,cpuacct/x/cpu.cfs_period_us": "10"}, 2.5),
        ("4:cpu:/x\n", {"cpu/x/cpu.cfs_quota_us": "-1\n", "cpu/x/cpu.cfs_period_us": "100000\n"}, math.inf),
        ("4:memory:/x\n", {"memory/x/cpu.max": "1 2"}, math.inf),
        ("", {}, math.inf),
    ],
)
def test_the_share_of_a_container(tmp_path, own, files, share):
    for name, text in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "own").write_text(own)
    assert processors.quota(str(tmp_path / "root"), str(tmp_path / "own")) == share


@pytest.mark.parametrize(("share", "count"), [(0.2, 1), (1.0, 1), (1.5, 2), (math.inf, 5), (64.0, 5)])
def test_no_more_processors_than_the_affinity_and_the_share_leave(monkeypatch, share, count):
    monkeypatch.setattr(processors, "quota", lambda: share)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(5)))
    processors._granted.cache_clear()
    try:
        assert processors.available() == count
    finally:
        processors._granted.cache_clear()


def test_a_process_on_one_processor_uses_one_thread():
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "import fastmeta_kernels.cpu as cpu; print(cpu.thread_count())"
    )
    assert python(program) == "1\n"
    early = "import fastmeta_kernels.cpu as cpu; import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
    assert python(early + "print(cpu.thread_count())") == "1\n"
    assert python(early + "print(cpu.thread_count())", FASTMETA_NUM_THREADS="2", NUMBA_NUM_THREADS="3") == "2\n"


@pytest.mark.parametrize(("tasks", "used"), [(1, 1), (2, 1), (10, 1), (25, 2), (60, 2)])
def test_little_work_stays_in_the_calling_thread(monkeypatch, tasks, used):
    """To the same bits."""
    net, batch = fm.MLP((1, 40, 40, 1)), fm.tasks.Sinusoid().sample(tasks, seed=0)
    parts, run = [], workers.Crew.run
    monkeypatch.setattr(threads, "thread_count", lambda: 2)
    monkeypatch.setattr(workers.Crew, "run", lambda crew, *work: (parts.append(work[-1]), run(crew, *work)))
    found = fm.meta_gradient(net, net.init(), batch, inner_lr=0.01).gradient
    assert parts == [used]
    monkeypatch.setattr(threads, "thread_count", lambda: 1)
    assert np.array_equal(found, fm.meta_gradient(net, net.init(), batch, inner_lr=0.01).gradient)


def python(program: str, **settings: str) -> str:
    given = {k: v for k, v in os.environ.items() if not k.startswith(("OMP", "GOMP", "NUMBA_NUM", "FASTMETA_NUM"))}
    done = subprocess.run([sys.executable, "-c", program], env=given | settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
