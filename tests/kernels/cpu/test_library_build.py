"""A library that is built here: the bits of the compiler for such processors, and what it asks of its system."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastmeta_kernels import library

ROOT = Path(__file__).resolve().parents[3]
LEVEL = next(iter(library.supported()), None)
# Of the C library and libm; anything else would not be there.
ASKED = {"exp", "expf", "log", "logf", "memcpy", "memset", "sched_yield", "sem_post", "sem_trywait", "sem_wait"}
TESTS = ("test_backends.py", "test_policies.py", "test_prototypes.py")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(LEVEL is None, reason="no library is made for this processor"),
    pytest.mark.skipif(not (shutil.which("ld.lld") or shutil.which("ld")), reason="no linker"),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The folder of this processor's library."""
    folder = tmp_path_factory.mktemp("libraries")
    python("-m", "fastmeta_kernels.cpu.native.build", LEVEL.name, "--out", str(folder), FASTMETA_LIBRARY="0")
    return folder


def python(*arguments: str, **variables: str) -> str:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"} | variables
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def recorded(file: Path, *plugins: str, **variables: str) -> list[str]:
    """What the tests of the backend compute, a line each."""
    options = ["-q", "-p", "no:cacheprovider", *(f"-ptests.kernels.cpu.{name}" for name in (*plugins, "recorded"))]
    tests = [f"tests/kernels/{name}" for name in TESTS]
    python("-m", "pytest", *options, "--recorded", str(file), "-k", "not cuda", *tests, **variables)
    return file.read_text("utf-8").splitlines()


def test_the_library_has_the_bits_of_the_compiler(built, tmp_path):
    ours = recorded(tmp_path / "library", "no_numba", FASTMETA_LIBRARY=str(built))
    compiler = {"NUMBA_CPU_NAME": LEVEL.name, "NUMBA_CPU_FEATURES": ""} if "x86" in LEVEL.name else {}
    theirs = recorded(tmp_path / "compiler", FASTMETA_LIBRARY="0", NUMBA_CACHE_DIR=str(tmp_path / "cache"), **compiler)
    assert len(ours) > 500
    assert ours == theirs


def test_it_serves_where_there_is_no_numba(built):
    said = python("-m", "fastmeta.cli", "--version", FASTMETA_LIBRARY=str(built)).splitlines()
    assert said[1] == f'kernels of device="cpu": the library for {LEVEL.name}'
    program = (
        "import sys, numpy as np, fastmeta as fm; net = fm.Conv4((12, 12, 1), 4, 3);"
        "fm.predict(net, net.init(0), np.ones((2, 12, 12, 1), np.float32));"
        "print({'numba', 'llvmlite'} & set(sys.modules))"
    )
    assert python("-c", program, FASTMETA_LIBRARY=str(built)) == "set()\n"


@pytest.mark.skipif(not shutil.which("nm"), reason="no nm lists the symbols")
def test_it_asks_for_the_c_library_alone(built):
    (path,) = built.glob("*.so")
    listed = subprocess.run(["nm", "-D", "--undefined-only", path], capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"U (\S+)", listed)) <= ASKED
    dynamic = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
    assert "NEEDED" not in dynamic
    assert "INIT" not in dynamic  # nothing is run when it is loaded
