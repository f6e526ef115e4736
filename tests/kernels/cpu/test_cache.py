"""Machine code on disk: entries that are damaged or that others may have written, and disks that do not take them."""

from __future__ import annotations

import os
import pickle
import resource
import signal

import numba
import pytest

from fastmeta_kernels import files
from fastmeta_kernels.cpu.machine import cache
from fastmeta_kernels.cpu.machine.cache import Entries, KernelCache

KEY, VALUE = ("f", 1), {"code": b"machine code" * 100}


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(files, "_told", set())
    cache.refusal.cache_clear()


@pytest.fixture
def entries(tmp_path) -> Entries:
    made = Entries(str(tmp_path / "cache" / "cpu"), "module.f-1.py311", "a" * 64)
    made.save(KEY, VALUE)
    assert made.load(KEY) == VALUE
    return made


def paths(entries: Entries) -> dict[str, str]:
    return {name[-4:]: os.path.join(entries.folder, name) for name in os.listdir(entries.folder)}


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize("ending", [".nbi", ".nbc"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[:40],
        lambda whole: whole[:-1],
        lambda whole: whole + b"\0",
        lambda whole: bytes(len(whole)),
        lambda whole: flipped(whole, 3),
        lambda whole: flipped(whole, 50),
        lambda whole: flipped(whole, len(whole) - 1),
    ],
    ids=["empty", "cut in the head", "cut", "longer", "zeros", "bit of the sum", "bit of the stamp", "last bit"],
)
def test_a_damaged_entry_is_named_and_dropped_and_kept_anew(entries, ending, damage):
    path = paths(entries)[ending]
    with open(path, "rb+") as file:
        whole = file.read()
        file.seek(0)
        file.truncate()
        file.write(damage(whole))
    with pytest.warns(files.CacheWarning, match="cut short or damaged: it is dropped") as told:
        assert entries.load(KEY) is None
    assert path in str(told[0].message)
    assert not os.path.exists(path)
    entries.save(KEY, VALUE)
    assert entries.load(KEY) == VALUE


def test_entries_of_other_sources_and_keys_are_not_there_without_a_word(entries):
    assert Entries(entries.folder, entries.name, "b" * 64).load(KEY) is None
    assert entries.load(("f", 2)) is None
    entries.save(("f", 2), "another")
    assert (entries.load(KEY), entries.load(("f", 2))) == (VALUE, "another")


def test_an_entry_under_anothers_name_is_damaged(entries):
    entries.save(("f", 2), "another")
    (one, other) = (os.path.join(entries.folder, entries._entry(key)) for key in (KEY, ("f", 2)))
    os.replace(other, one)
    with pytest.warns(files.CacheWarning, match="damaged"):
        assert entries.load(KEY) is None


class Planted:
    def __reduce__(self):
        return os.mkdir, (os.environ["PLANTED"],)


def open_to_all(path):
    os.chmod(path, 0o777)


def open_to_the_group(path):
    os.chmod(path, 0o770)


def anothers(path):
    if os.geteuid() != 0:
        pytest.skip("only the superuser can give files away")
    os.chown(path, 12345, 12345)


@pytest.mark.parametrize("opened", [open_to_all, open_to_the_group, anothers])
@pytest.mark.parametrize("what", ["place", "folder", ".nbi", ".nbc"])
def test_what_others_may_have_written_is_not_unpickled(entries, opened, what, tmp_path, monkeypatch):
    monkeypatch.setenv("PLANTED", str(tmp_path / "planted"))
    entries.save(KEY, Planted())
    found = paths(entries) | {"folder": entries.folder, "place": str(tmp_path / "cache")}
    opened(found[what])
    cache.refusal.cache_clear()
    with pytest.warns(files.CacheWarning, match="another user|other users") as told:
        assert entries.load(KEY) is None
    assert found[what] in str(told[0].message)
    assert not (tmp_path / "planted").exists()


def test_names_in_a_folder_like_tmp_are_safe(entries, tmp_path):
    os.chmod(tmp_path / "cache", 0o1777)
    cache.refusal.cache_clear()
    assert entries.load(KEY) == VALUE


def test_new_folders_and_entries_are_for_their_user_alone(entries, tmp_path):
    old = os.umask(0o002)
    try:
        made = Entries(str(tmp_path / "other" / "cpu"), "f", "a" * 64)
        made.save(KEY, VALUE)
    finally:
        os.umask(old)
    assert made.load(KEY) == VALUE
    modes = [os.stat(path).st_mode & 0o777 for path in (tmp_path / "other", made.folder, *paths(made).values())]
    assert modes == [0o700, 0o700, 0o600, 0o600]


@pytest.mark.parametrize("plant", [lambda path: os.mkfifo(path), lambda path: os.symlink("/dev/zero", path), os.mkdir])
@pytest.mark.parametrize("ending", [".nbi", ".nbc"])
def test_what_is_no_plain_file_is_not_read(entries, plant, ending):
    path = paths(entries)[ending]
    os.remove(path)
    plant(path)
    loaded = None
    with pytest.warns(files.CacheWarning), files.spared(entries.folder, "", ""):
        loaded = entries.load(KEY)
    assert loaded is None


def compiled(folder, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(folder))

    def double(x):
        return 2 * x

    function = numba.njit(double)
    function._cache = KernelCache(double, "a" * 64)
    return function


def test_a_compiled_function_is_found_again(tmp_path, monkeypatch):
    for hits in (0, 1):
        function = compiled(tmp_path / "made", monkeypatch)
        assert function(3) == 6
        assert sum(function.stats.cache_hits.values()) == hits


@pytest.mark.parametrize("nowhere", ["/dev/null/none", "/proc/none", "file/cache", "~"])
def test_without_a_place_every_start_compiles_and_says_so_once(tmp_path, monkeypatch, nowhere):
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    function = compiled(nowhere, monkeypatch)
    with pytest.warns(files.CacheWarning, match=r"compiled at every start\. Set NUMBA_CACHE_DIR") as told:
        assert [function(3), function(3.0)] == [6, 6.0]
    assert len(told) == 1
    assert nowhere in str(told[0].message)
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_is_said_once_and_leaves_no_part(tmp_path, monkeypatch):
    function = compiled(tmp_path / "made", monkeypatch)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        with pytest.warns(files.CacheWarning, match="File too large") as told:
            assert [function(3), function(3.0)] == [6, 6.0]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, previous)
    assert len(told) == 1
    assert not [name for _, _, names in os.walk(tmp_path) for name in names]


def test_an_entry_of_other_libraries_is_dropped(entries, monkeypatch):
    monkeypatch.setattr(pickle, "loads", lambda content: (_ for _ in ()).throw(AttributeError("no such class")))
    with pytest.warns(files.CacheWarning, match="no such class: it is dropped"):
        assert entries.load(KEY) is None
