"""Where Numba is told not to compile, the error says what to use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastmeta
from fastmeta import device
from fastmeta_kernels import library

ROOT = Path(__file__).resolve().parents[1]
BEGIN = "import numpy as np, fastmeta as fm; net = fm.MLP((1, 4, 1)); theta = net.init(0); x = np.ones((2, 1));"
CALLS = {
    "predict": "fm.predict(net, theta, x)",
    "fit": "fm.MAML(net).fit(fm.tasks.Sinusoid(), 1)",
    "prototype_loss": "fm.prototype_loss(x, [0, 1], x, [0, 1])",
    "check": "from fastmeta.cli import main; main(['check'])",
    "train": "from fastmeta.cli import main; main(['train', 'sinusoid', '--out', 'run'])",
}


def python(program: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"} | variables
    command = [sys.executable, "-c", BEGIN + program]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder, check=False)


@pytest.mark.parametrize("call", CALLS)
def test_no_compiler_no_cpu_kernels(call: str, tmp_path: Path) -> None:
    done = python(CALLS[call], tmp_path, NUMBA_DISABLE_JIT="1")
    assert done.returncode == 1
    assert 'device="cpu" must compile its kernels, which NUMBA_DISABLE_JIT forbids' in done.stderr
    assert 'use device="numpy"' in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_file_of_numbas_settings_counts_too(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    (tmp_path / ".numba_config.yaml").write_text("disable_jit: 1\n")
    assert "NUMBA_DISABLE_JIT forbids" in python(CALLS["predict"], tmp_path).stderr


def test_the_reference_needs_no_compiler(tmp_path: Path) -> None:
    done = python("print(fm.predict(net, theta, x, device='numpy').shape)", tmp_path, NUMBA_DISABLE_JIT="1")
    assert done.stdout == "(2, 1)\n", done.stderr


@pytest.mark.parametrize("forbidden", ["", "1"])
def test_the_version_says_where_kernels_come_from(tmp_path: Path, forbidden: str) -> None:
    program = "from fastmeta.cli import main; main(['--version'])"
    done = python(program, tmp_path, FASTMETA_LIBRARY="0", NUMBA_DISABLE_JIT=forbidden)
    assert done.stdout.splitlines() == [
        f"fastmeta, version {fastmeta.__version__}",
        'kernels of device="cpu": compiled by Numba (FASTMETA_LIBRARY=0)',
    ]


@pytest.mark.parametrize(
    ("passes", "serves", "plain"),
    [(1, False, True), (1, True, True), (10_000, False, True), (10_000, True, False), (100_000, False, False)],
)
def test_small_work_is_numpys_and_less_of_it_beside_a_library(monkeypatch, passes, serves, plain) -> None:
    """A network of 1,761 parameters, in a process that has loaded no kernels."""
    for name in ("numba", "fastmeta_kernels.cpu"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(library, "loaded", lambda: serves or None)
    assert device.starts_faster_with_numpy(fastmeta.MLP((1, 40, 40, 1)).table, passes) is plain
