"""The caches of images and Omniglot: whatever the disk does, images come; and they are those of the files."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from fastmeta.tasks import cache
from fastmeta.tasks.images import decoded
from fastmeta.tasks.omniglot import images as drawings
from tests.tasks.pictures import draw, images, part_folders, pixels


def grey_folders(root, shade) -> None:
    for part in ("train", "val", "test"):
        for kind in "ab":
            for i in range(2):
                path = draw(root / part / f"{part}{kind}" / f"{i}.bmp", np.full((8, 8, 3), shade, np.uint8))
                os.utime(path, (0, 0))


def overwritten(root) -> None:
    grey_folders(root, 200)


def renamed(root) -> None:
    grey_folders(root.with_name("new"), 200)
    for path in sorted(root.with_name("new").rglob("*.bmp")):
        os.replace(path, root / path.relative_to(root.with_name("new")))


def copied_over_with_their_times(root) -> None:
    for path in root.rglob("*.bmp"):
        about, content = path.stat(), path.read_bytes()
        path.write_bytes(content[:54] + bytes([200]) * (len(content) - 54))
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def linked_elsewhere(root) -> None:
    grey_folders(root.with_name("new"), 200)
    for path in root.rglob("*.bmp"):
        path.unlink()
        path.symlink_to(root.with_name("new") / path.relative_to(root))


@pytest.mark.parametrize("replace", [overwritten, renamed, copied_over_with_their_times, linked_elsewhere])
def test_other_bytes_of_equal_size_and_time_are_noticed(tmp_path, replace):
    root = tmp_path / "root"
    grey_folders(root, 10)
    assert images(root).train.x.mean() == 10
    replace(root)
    assert images(root).train.x.mean() == 200


def test_files_that_change_at_once_are_noticed_every_time(tmp_path):
    for shade in range(0, 250, 10):
        grey_folders(tmp_path / "root", shade)
        assert images(tmp_path / "root").train.x.mean() == shade


def refuse(number):
    def opened(*arguments, **options):
        raise OSError(number, os.strerror(number), "cache")

    return opened


class FullDisk:
    """A file that takes a few bytes."""

    def __init__(self, file) -> None:
        self.file = file

    def write(self, content) -> int:
        if self.file.tell() > 500:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(content)

    def __getattr__(self, name):
        return getattr(self.file, name)


def no_folder(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("FASTMETA_CACHE", str(tmp_path / "file" / "cache"))


def read_only(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("pathlib.Path.mkdir", refuse(errno.EROFS))


def forbidden(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os, "replace", refuse(errno.EACCES))


def full(tmp_path, monkeypatch) -> None:
    beside = cache.written_beside

    def small(path, **options):
        class Opened:
            def __enter__(self):
                self.made = beside(path, **options)
                return FullDisk(self.made.__enter__())

            def __exit__(self, *error):
                return self.made.__exit__(*error)

        return Opened()

    monkeypatch.setattr(cache, "written_beside", small)


def a_folder_of_its_name(tmp_path, monkeypatch) -> None:
    key = decoded._key
    monkeypatch.setattr(decoded, "_key", lambda paths, size: "key" + str(len(key(paths, size))))
    monkeypatch.setattr(drawings, "_key", lambda sources, archives: "key")
    for name in ("images-8x8-key16.npy", "omniglot-28x28-key.npz"):
        (tmp_path / "cache" / name / "inside").mkdir(parents=True)


def too_long(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("FASTMETA_CACHE", str(tmp_path / ("long" * 100)))


TROUBLES = [no_folder, read_only, forbidden, full, a_folder_of_its_name, too_long]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_images_come_without_a_cache_and_a_warning_names_it(tmp_path, monkeypatch, trouble):
    root = part_folders(tmp_path / "root")
    trouble(tmp_path, monkeypatch)
    with pytest.warns(UserWarning, match=r"The cache .*images-8x8-.*\.npy\" cannot be used \(.*Set FASTMETA_CACHE"):
        source = images(root)
    np.testing.assert_array_equal(source.train.x[0], pixels(0))
    assert not list((tmp_path / "cache").glob(".fastmeta-*"))


def test_a_cache_that_cannot_be_read_back_does_no_harm(tmp_path, monkeypatch):
    root = part_folders(tmp_path / "root")
    monkeypatch.setattr(decoded.np, "load", refuse(errno.EIO))
    np.testing.assert_array_equal(images(root).train.x[0], pixels(0))


@pytest.mark.parametrize("damage", ["cut", "empty", "other shape", "pickle", "text", "other dtype"])
def test_a_damaged_cache_is_made_again(tmp_path, own_cache, damage):
    root = part_folders(tmp_path / "root")
    images(root)
    for path in own_cache.glob("*.npy"):
        if damage == "cut":
            path.write_bytes(path.read_bytes()[:-5])
        elif damage in ("empty", "text"):
            path.write_bytes(b"" if damage == "empty" else b"no array")
        else:
            odd = {"other shape": np.zeros((3, 8, 8, 3), np.uint8), "pickle": np.array([None])}
            np.save(path, odd.get(damage, np.zeros((6, 8, 8, 3), np.int64)), allow_pickle=True)
    np.testing.assert_array_equal(images(root).train.x[0], pixels(0))
    assert {np.load(path).shape for path in own_cache.glob("*.npy")} == {(6, 8, 8, 3)}
