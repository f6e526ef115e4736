"""`--to native`: programs that the library of kernels runs from C, with the bits that it gives in Python."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import fastmeta as fm
from fastmeta_kernels import library

ROOT = Path(__file__).resolve().parents[2]
HERE = library.loaded()
ARM = next(level for level in library.LEVELS if level.name == "aarch64")
OF_ARM = Path(os.environ.get("FASTMETA_LIBRARY") or library.FOLDER) / library.file_name(ARM)
built = pytest.mark.skipif(
    HERE is None, reason="no library of these sources: python -m fastmeta_kernels.cpu.native.build"
)
compiler = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")


SOURCE = ROOT / "docs" / "deployment" / "native.c"


def run_in(folder: Path, name: str, compiler: str = "cc", *runner: str) -> np.ndarray:
    """The targets and outputs that the program prints, by a library that lies beside it."""
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-I", str(folder), "-Wl,-rpath,$ORIGIN"]
    command = [compiler, *flags, "-o", "curve", str(SOURCE), name, "-lm", "-lpthread"]
    subprocess.run(command, cwd=folder, check=True)
    done = subprocess.run([*runner, "./curve"], cwd=folder, capture_output=True, text=True, check=True)
    return np.array([line.split() for line in done.stdout.splitlines()], np.float32).T


@pytest.fixture(scope="module")
def curve():
    """A learner of sine curves."""
    return fm.MAML(fm.MLP((1, 40, 40, 1)), 0.01, 5, device="numpy").fit(fm.tasks.Sinusoid(), 20)


@built
@compiler
def test_thirty_lines_of_c_give_the_bits_of_python(curve, tmp_path):
    assert SOURCE.read_text("utf-8").count("\n") <= 30
    report = fm.export(curve, tmp_path, to="native", name="curve", samples=10)
    assert report.error < 1e-5
    names = {path.name for path in report.files}
    assert {"curve.fastmeta", "curve.h", "curve.json", Path(HERE.path).name} <= names
    y, outputs = run_in(tmp_path, Path(HERE.path).name)
    x = np.arange(10, dtype=np.float32)[:, None] - np.float32(4.5)
    phi = fm.adapt(curve.net, curve.theta, x, y[:, None], inner_lr=0.01, inner_steps=5, device="cpu")
    np.testing.assert_array_equal(fm.predict(curve.net, phi, x, device="cpu")[:, 0], outputs)
    damaged = bytearray((tmp_path / "curve.fastmeta").read_bytes())
    for place, bit, why in ((0, 1, 1), (900, 4, 2), (16, 0, 0)):
        content = damaged.copy()
        content[place] ^= bit
        (tmp_path / "curve.fastmeta").write_bytes(content)
        assert subprocess.run(["./curve"], cwd=tmp_path, stdout=subprocess.DEVNULL, check=False).returncode == why


@pytest.mark.skipif(not OF_ARM.is_file(), reason="no library for aarch64: python -m ...cpu.native.build aarch64")
@pytest.mark.skipif(not shutil.which("aarch64-linux-gnu-gcc"), reason="no compiler for aarch64")
@pytest.mark.skipif(not shutil.which("qemu-aarch64"), reason="no qemu-aarch64")
def test_aarch64_agrees(curve, tmp_path):
    fm.export(curve, tmp_path, to="native", name="curve", samples=10)
    y, outputs = run_in(tmp_path, OF_ARM.name, "aarch64-linux-gnu-gcc", "qemu-aarch64", "-L", "/usr/aarch64-linux-gnu")
    x = np.arange(10, dtype=np.float32)[:, None] - np.float32(4.5)
    phi = fm.adapt(curve.net, curve.theta, x, y[:, None], inner_lr=0.01, inner_steps=5, device="numpy")
    expected = fm.predict(curve.net, phi, x, device="numpy")[:, 0]
    assert np.abs(expected - outputs).max() <= 1e-5 * np.abs(expected).max()


@built
@pytest.mark.parametrize("kind", ["conv", "pool", "meta-sgd", "head"])
def test_other_learners_agree_with_float64(kind, tmp_path):
    net = fm.Conv4((28, 28, 1), 8, 3, **({"downsample": "pool"} if kind == "pool" else {}))
    learners = {"meta-sgd": lambda: fm.MetaSGD(net, 0.05, 3), "head": lambda: fm.ANIL(net, 0.05, 3)}
    learner = learners.get(kind, lambda: fm.MAML(net, 0.05, 3))()
    learner.theta = net.init(0)
    report = fm.export(
        learner, tmp_path, to="native", samples=6, queries=9, loss=fm.CrossEntropy(), batch_norm="transductive"
    )
    assert report.error < 1e-4


def test_what_has_no_such_form_is_said(curve, tmp_path):
    net = fm.Conv4((28, 28, 1), 4, 3)
    conv = fm.MAML(net, 0.05, 3)
    conv.theta = net.init(0)
    given = {"to": "native", "samples": 6}
    with pytest.raises(ValueError, match='batch_norm="frozen" must be "transductive"'):
        fm.export(conv, tmp_path, loss=fm.CrossEntropy(), **given)
    with pytest.raises(ValueError, match='store="int8" must be "float32"'):
        fm.export(curve, tmp_path, store="int8", **given)
    protonet = fm.ProtoNet(fm.Conv4((28, 28, 1), 4, 3))
    protonet.theta = net.init(0)
    with pytest.raises(ValueError, match="must be given a learner of plain inner steps"):
        fm.export(protonet, tmp_path, ways=3, **given)


def test_without_libraries_it_says_where_they_come_from(curve, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTMETA_LIBRARY", str(tmp_path))
    with pytest.raises(ValueError, match="must have the libraries of kernels, which wheels for Linux bring"):
        fm.export(curve, tmp_path / "out", to="native", samples=10)
