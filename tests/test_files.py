"""Files that are whole or absent, and caches that may fail."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading

import pytest

from fastmeta_kernels import files, host


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(files, "_told", set())


def test_threads_and_processes_that_write_one_file_all_succeed(tmp_path):
    path, failed = tmp_path / "one", []

    def write(letter: bytes) -> None:
        for _ in range(30):
            try:
                with files.written_beside(path) as file:
                    file.write(letter * 3000)
                assert len(set(path.read_bytes())) == 1
            except (OSError, AssertionError) as error:
                failed.append(error)

    program = (
        "import sys; from fastmeta_kernels.files import written_beside\n"
        "for _ in range(30):\n with written_beside(sys.argv[1]) as file: file.write(b'z' * 3000)"
    )
    others = [subprocess.Popen([sys.executable, "-c", program, str(path)]) for _ in range(2)]
    threads = [threading.Thread(target=write, args=(bytes([letter]),)) for letter in b"abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [other.wait(60) for other in others] == [0, 0]
    assert not failed
    assert os.listdir(tmp_path) == ["one"]
    assert path.stat().st_size == 3000


def test_a_name_that_is_taken_is_not_written_to(tmp_path, monkeypatch):
    """As in two containers whose random numbers are those of one snapshot."""
    monkeypatch.setattr(os, "urandom", bytes)
    (tmp_path / f".fastmeta-{bytes(8).hex()}.tmp").write_text("another's")
    with pytest.raises(FileExistsError, match=r"'.*/new'"), files.written_beside(tmp_path / "new"):
        pass


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_failed_write_names_the_file_and_leaves_the_old_one(tmp_path, number):
    (tmp_path / "kept").write_text("old")

    def write() -> None:
        with files.written_beside(tmp_path / "kept") as file:
            file.write(b"new")
            raise OSError(number, os.strerror(number))

    with pytest.raises(OSError, match=r"/kept'$"):
        write()
    assert os.listdir(tmp_path) == ["kept"]
    assert (tmp_path / "kept").read_text() == "old"


@pytest.mark.parametrize("name", ["none/file", "file/file", "x" * 256])
def test_a_place_that_takes_no_file_is_named(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=f"/{name}'$"), files.written_beside(tmp_path / name):
        pass


def test_a_durable_file_and_its_name_are_flushed(tmp_path, monkeypatch):
    flushed, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (flushed.append(os.readlink(f"/proc/self/fd/{file}")), fsync(file)))
    with files.written_beside(tmp_path / "file", durable=True):
        pass
    assert flushed[0].startswith(f"{tmp_path}/.fastmeta-")
    assert flushed[1:] == [str(tmp_path)]
    with files.written_beside(tmp_path / "cache"):
        pass
    assert len(flushed) == 2


def test_leftovers_are_those_of_killed_writers(tmp_path):
    (tmp_path / "mine.tmp").touch()
    program = (
        "import os, sys; from fastmeta_kernels.files import written_beside\n"
        "with written_beside(sys.argv[1]) as file: os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "file")], check=True)
    (left,) = files.leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [os.path.basename(left), "mine.tmp"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ENOTDIR])
def test_a_cache_that_fails_is_a_warning_once_with_path_cost_and_cure(number):
    def use() -> None:
        with files.spared("/some/place", "It is slow.", "Set PLACE."):
            raise OSError(number, os.strerror(number))

    with pytest.warns(files.CacheWarning) as told:
        [use() for _ in range(3)]
    (one,) = told
    assert str(one.message) == f'The cache "/some/place" cannot be used ({os.strerror(number)}). It is slow. Set PLACE.'


def test_what_is_no_fault_of_the_cache_is_raised():
    with pytest.raises(ValueError, match="image"), files.spared("/some/place", "", ""):
        raise ValueError("image")


@pytest.mark.parametrize("option", [["-W", "error"], ["-W", "default"], []])
def test_where_warnings_are_errors_no_run_ends_by_a_cache(option):
    program = "from fastmeta_kernels.files import spared\nwith spared('/x', 'Slow.', ''): raise OSError(28, 'full')"
    given = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    done = subprocess.run([sys.executable, *option, "-c", program], capture_output=True, text=True, env=given)
    assert done.returncode == 0
    assert done.stderr.count('CacheWarning: The cache "/x" cannot be used (full). Slow.') == 1


def test_free_memory_is_less_than_the_limit_of_the_process():
    program = (
        "import resource; from fastmeta_kernels.host import free_bytes; before = free_bytes();"
        "resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30)); print(before > 0, 0 < free_bytes() < 3 << 30)"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "True True\n"
    assert host.free_bytes() < 1 << 60


@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "link to a device"])
def test_what_is_no_file_is_not_replaced(tmp_path, kind):
    """As root, a file that takes the name of /dev/null would end every program that writes there."""
    path = tmp_path / "odd"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/null")
    path = path if kind != "device" else "/dev/null"
    before = os.stat(path)
    with pytest.raises(OSError, match="It must be a file, not a folder, device or pipe"), files.written_beside(path):
        pass
    assert os.path.samestat(before, os.stat(path))
    assert len(os.listdir(tmp_path)) == 1


@pytest.mark.parametrize("there", [True, False])
def test_what_a_link_points_to_is_written(tmp_path, there):
    (tmp_path / "disk").mkdir()
    target, link = tmp_path / "disk" / "kept", tmp_path / "link"
    link.symlink_to(target)
    if there:
        target.write_text("old")
    with files.written_beside(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert os.listdir(tmp_path / "disk") == ["kept"]
