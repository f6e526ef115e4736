"""Starting ranks in tests, with the launcher that stands beside the interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MPIEXEC = Path(sys.executable).with_name("mpiexec")
PROGRAM = Path(__file__).with_name("program.py")
needs_mpi = pytest.mark.skipif(
    not MPIEXEC.exists() or find_spec("mpi4py") is None,
    reason='no mpi4py and mpiexec here: pip install "fastmeta[mpi]"',
)


def started(ranks: int, *command: object, options: tuple[str, ...] = (), **more: Any) -> subprocess.Popen[str]:
    """`command` on this many ranks, one thread each; stdout and stderr come together."""
    root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    words = [MPIEXEC, *root, "--oversubscribe", "--bind-to", "none", *options, "-n", ranks, *command]
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "kernels")))
    environment = os.environ | {"PYTHONPATH": paths, "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
    return subprocess.Popen(list(map(str, words)), env=environment, text=True, **(pipes | more))


def program(
    ranks: int, folder: Path, *options: str, stdout: Any = subprocess.PIPE, **given: Any
) -> subprocess.Popen[str]:
    """program.py on ranks; it writes to `folder`."""
    text = json.dumps({"out": str(folder), "learners": ["MAML"], "iterations": 4} | given)
    return started(ranks, sys.executable, PROGRAM, text, options=options, stdout=stdout)


def results(run: subprocess.Popen[str], folder: Path, seconds: float = 120) -> list[Any]:
    """What the ranks kept, when they are done."""
    said = output(run, seconds)
    assert run.returncode == 0, said
    return kept(folder)


def output(run: subprocess.Popen[str], seconds: float = 120) -> str:
    """What a job said; AssertionError, and it is stopped, where it does not end in time."""
    try:
        return run.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        run.terminate()
        raise AssertionError(f"still running after {seconds} s: {run.communicate()[0]}") from None


def kept(folder: Path) -> list[Any]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("done-*.json"))]
