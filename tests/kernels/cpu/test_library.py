"""Libraries of kernels: found where they serve, left alone with a word where they do not; no process ends by one."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastmeta_kernels import files, library
from fastmeta_kernels.library import LEVELS, file_name, mark

ROOT = Path(__file__).resolve().parents[3]
HERE = next(iter(library.supported()), None)
linker = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler makes a small library here")
linux = pytest.mark.skipif(HERE is None, reason="no library is made for this processor")


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Nothing that was found before, and no library's folder but the test's own."""
    monkeypatch.setattr(files, "_told", set())
    caches = library.loaded, library._found, library.supported
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTMETA_LIBRARY", str(tmp_path))
    return tmp_path


def small(folder: Path, said: str, name: str = "") -> Path:
    """A library that says so of itself, whole and with one function."""
    source = folder / "small.c"
    source.write_text(f'const char fastmeta_mark[] = "{said}"; int fastmeta_three(void) {{ return 3; }}\n')
    path = folder / (name or file_name(HERE))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(path), str(source)], check=True)
    content = path.read_bytes()
    path.write_bytes(content + hashlib.sha256(content).digest())
    return path


@linker
@linux
def test_a_library_of_these_sources_serves(folder):
    path = small(folder, mark(HERE))
    found = library.loaded()
    assert (found.level, found.path) == (HERE, str(path))
    assert found.address("fastmeta_three") > 0
    assert library.in_use() == f"the library for {HERE.name}"


def test_without_any_nothing_is_said(tmp_path, monkeypatch, recwarn):
    monkeypatch.delenv("FASTMETA_LIBRARY", raising=False)
    monkeypatch.setattr(library, "FOLDER", str(tmp_path))
    assert library.loaded() is None
    assert library.in_use() == "no library"
    assert len(recwarn) == 0


@pytest.mark.parametrize("place", ["", "nowhere"])
def test_a_folder_that_is_named_and_has_none_is_said(tmp_path, monkeypatch, place):
    monkeypatch.setenv("FASTMETA_LIBRARY", str(tmp_path / place))
    with pytest.warns(files.CacheWarning, match=r'FASTMETA_LIBRARY=".*" must be 0 or a folder of libraries'):
        assert library.loaded() is None


def test_it_can_be_turned_off_without_a_word(monkeypatch, recwarn):
    monkeypatch.setenv("FASTMETA_LIBRARY", "0")
    assert library.loaded() is None
    assert library.in_use() == "FASTMETA_LIBRARY=0"
    assert len(recwarn) == 0


@linux
def test_one_of_other_sources_is_left_alone_and_one_beside_it_serves(folder):
    other = folder / f"fastmeta-{'0' * 16}-{HERE.name}.so"
    other.write_bytes(b"anything")
    with pytest.warns(files.CacheWarning, match="are of other sources than this fastmeta. Numba compiles") as told:
        assert library.loaded() is None
    assert len(told) == 1
    assert str(folder) in str(told[0].message)
    if shutil.which("cc"):
        small(folder, mark(HERE))
        library.loaded.cache_clear()
        library._found.cache_clear()
        assert library.loaded() is not None


@linker
@linux
def test_an_older_library_under_a_newer_name(folder):
    small(folder, f"{'0' * 64} {HERE.name}")
    with pytest.warns(files.CacheWarning, match="is of other sources than its name says"):
        assert library.loaded() is None


def with_sum(content: bytes) -> bytes:
    return content + hashlib.sha256(content).digest()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda whole: b"", "cut short or damaged"),
        (lambda whole: whole[:31], "cut short or damaged"),
        (lambda whole: whole[:4096], "cut short or damaged"),
        (lambda whole: whole[:-1], "cut short or damaged"),
        (lambda whole: whole + b"\0", "cut short or damaged"),
        (lambda whole: bytes(len(whole)), "cut short or damaged"),
        (lambda whole: whole[:700] + bytes([whole[700] ^ 1]) + whole[701:], "cut short or damaged"),
        (lambda whole: with_sum(b""), "cannot be loaded"),
        (lambda whole: with_sum(b"no library at all"), "cannot be loaded"),
        (lambda whole: with_sum(whole[:18] + b"\xf3" + whole[19:-32]), "cannot be loaded"),  # of a RISC-V machine
    ],
    ids=["empty", "a piece", "cut", "a byte less", "a byte more", "zeros", "a bit", "nothing", "a text", "foreign"],
)
@linker
@linux
def test_what_is_damaged_is_never_loaded(folder, damage, said):
    path = small(folder, mark(HERE))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(files.CacheWarning, match=said) as told:
        assert library.loaded() is None
    assert str(path) in str(told[0].message)
    assert said in library.in_use()


@linux
@pytest.mark.parametrize("instead", [os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file_is_not_read(folder, instead):
    instead(folder / file_name(HERE))
    with pytest.warns(files.CacheWarning, match="is no file"):
        assert library.loaded() is None


@linux
def test_a_processor_below_every_library(folder, monkeypatch):
    for level in LEVELS:
        (folder / file_name(level)).write_bytes(b"")
    monkeypatch.setattr(library, "processor_flags", lambda: frozenset({"sse2"}))
    with pytest.warns(files.CacheWarning, match=r"are for other processors \(x86-64-v4, .*aarch64\)"):
        assert library.loaded() is None


@pytest.mark.parametrize(
    ("machine", "flags", "names"),
    [
        ("x86_64", LEVELS[0].flags | {"more"}, ["x86-64-v4", "x86-64-v3", "x86-64-v2"]),
        ("x86_64", LEVELS[1].flags, ["x86-64-v3", "x86-64-v2"]),
        ("x86_64", LEVELS[0].flags - {"fma"}, ["x86-64-v2"]),
        ("x86_64", frozenset(), []),
        ("aarch64", frozenset(), ["aarch64"]),
        ("riscv64", LEVELS[0].flags, []),
    ],
)
def test_the_levels_of_a_processor(monkeypatch, machine, flags, names):
    monkeypatch.delenv("FASTMETA_VECTOR_BYTES", raising=False)
    monkeypatch.setattr(os, "uname", lambda: type("Uname", (), {"machine": machine}))
    monkeypatch.setattr(library, "processor_flags", lambda: flags)
    assert [level.name for level in library.supported()] == names


def test_flags_are_those_of_the_first_processor(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nflags\t\t: fpu sse2 avx\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    assert library.processor_flags(str(path)) == {"fpu", "sse2", "avx"}
    path.write_text("processor\t: 0\nFeatures\t: fp asimd\n")
    assert library.processor_flags(str(path)) == {"fp", "asimd"}
    assert library.processor_flags(str(tmp_path / "none")) == frozenset()


@linux
def test_a_damaged_library_and_the_compiler_computes(folder):
    """A whole process: one line on standard error, and Numba's results."""
    (folder / file_name(HERE)).write_bytes(b"damaged")
    program = (
        "import numpy as np, fastmeta as fm; net = fm.MLP((1, 4, 1)); x = np.ones((2, 1), np.float32);"
        "print(fm.predict(net, net.init(0), x, device='cpu').tolist()); from fastmeta_kernels.cpu.machine import jit;"
        "print(len(jit._kept) > 0)"
    )
    paths = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"}
    results = []
    for chosen in (str(folder), "0"):
        environment = os.environ | paths | {"FASTMETA_LIBRARY": chosen}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        results.append(done.stdout)
        assert ("cut short or damaged" in done.stderr) == (chosen != "0")
        assert done.stderr.count("CacheWarning") <= 1
    assert results[0] == results[1]
    assert results[0].endswith("True\n")


def test_names_of_the_compiler_that_are_not_there():
    from fastmeta_kernels.cpu.machine.compiler import Absent

    absent = Absent()

    class Made(absent.base):
        pass

    @absent.decorator(option=1)
    def function():
        pass

    assert all(thing is absent for thing in (absent.a.b(1)(2), function, *{absent.c: 1}))
    assert isinstance(Made, Absent)
    assert list(absent) == []
    assert not hasattr(absent, "__array__")
    assert np.array([absent], object).size == 1
