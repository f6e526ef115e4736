"""Which folders are classes and which files are images: nothing of others, and nothing of the user's left out."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

import fastmeta as fm
from tests.tasks.pictures import PARTS, draw, images, part_folders, pixels


@pytest.mark.parametrize(
    "name",
    [".ipynb_checkpoints", "__MACOSX", ".git", ".thumbnails", "._train-cat", "@eaDir", "lost+found", "$RECYCLE.BIN"],
)
@pytest.mark.parametrize("place", ["class", "image folder"])
def test_what_others_leave_behind_is_no_class_and_no_image(tmp_path, name, place):
    part_folders(tmp_path)
    wanted = images(tmp_path).train.x.copy()
    folder = tmp_path / "train" / ("" if place == "class" else "train-cat") / name
    draw(folder / "0.png")
    source = images(tmp_path)
    assert source.classes["train"] == ("train-cat", "train-dog")
    np.testing.assert_array_equal(source.train.x, wanted)


@pytest.mark.parametrize("name", ["._0.png", ".0.png.swp.png", ".hidden.jpg", "Thumbs.db", "desktop.ini", ".DS_Store"])
def test_hidden_files_are_no_images(tmp_path, name):
    part_folders(tmp_path)
    (tmp_path / "train" / "train-cat" / name).write_bytes(b"no image")
    assert len(images(tmp_path).train.x) == 6


@pytest.mark.parametrize("layout", ["split", "csv", "Omniglot's zip"])
def test_leftovers_are_skipped_in_every_layout(tmp_path, layout):
    if layout == "split":
        for name in "abcdef":
            for i in range(2):
                draw(tmp_path / name / f"{i}.png", pixels(i))
            (tmp_path / name / "._0.png").write_bytes(b"no image")
            draw(tmp_path / name / "__MACOSX" / "0.png")
        source = images(tmp_path, split={"train": ["a", "b"], "validation": ["c", "d"], "test": ["e", "f"]})
        assert len(source.train.x) == 4
    elif layout == "csv":
        draw(tmp_path / "train" / "photos" / "0.png", pixels(1))
        for place in (".thumbnails", "__MACOSX", "photos/.ipynb_checkpoints"):
            draw(tmp_path / "train" / place / "0.png", pixels(2))
        (tmp_path / "train.csv").write_text("filename,label\n0.png,cat\n")
        np.testing.assert_array_equal(fm.tasks.Images(tmp_path, image_size=8)._arrays["train"][0][0], pixels(1))
    else:
        from fastmeta.tasks.omniglot.images import _drawings

        names = ("images/Latin/character01/0001_01.png", "__MACOSX/images/Latin/character01/._0001_01.png")
        assert list(_drawings(dict.fromkeys(names, bytes))) == ["Latin/character01/0001_01.png"]


@pytest.mark.parametrize("name", ["data", "images", "train", "test", "val", "Data", "__init__", "thumbs"])
@pytest.mark.parametrize("nested", [True, False])
def test_any_other_name_is_a_class(tmp_path, name, nested):
    part_folders(tmp_path)
    for folder in ("monday", "friday") if nested else ("",):
        for i in range(3):
            draw(tmp_path / "train" / name / folder / f"{i}.png", pixels(i + len(folder)))
    source = images(tmp_path)
    assert source.classes["train"] == tuple(sorted([name, "train-cat", "train-dog"]))
    assert len(source.train.x) == 6 + (6 if nested else 3)


@pytest.mark.parametrize("below", ["", "images", "data"])
@pytest.mark.parametrize("name", ["images", "data", "train"])
def test_any_name_is_a_class_of_a_split(tmp_path, below, name):
    classes = [name, "b", "c", "d"]
    for kind in classes:
        for i in range(2):
            draw(tmp_path / below / kind / f"{i}.png", np.full((8, 8, 3), classes.index(kind), np.uint8))
    source = images(tmp_path, split={"train": [name, "b"], "test": ["c", "d"]})
    assert sorted(set(source.train.x.ravel().tolist())) == [0, 1]
    assert sorted(set(source.test.x.ravel().tolist())) == [2, 3]


def test_classes_at_two_places_are_an_error(tmp_path):
    for below in ("images", "data"):
        for kind in "ab":
            draw(tmp_path / below / kind / "0.png")
    with pytest.raises(ValueError, match=r'must hold the classes of split once, not in .*images" and in|images and in'):
        images(tmp_path, split={"train": ["a", "b"]})


@pytest.mark.parametrize("twice", [("val", "validation"), ("val", "valid"), ("val.csv", "validation.csv")])
def test_a_part_at_two_places_is_an_error(tmp_path, twice):
    for name in twice:
        if name.endswith("csv"):
            (tmp_path / name).write_text("filename,label\n")
        else:
            draw(tmp_path / name / "a" / "0.png")
    with pytest.raises(ValueError, match=r"must hold the validation part once, not as val.* and val"):
        images(tmp_path)


@pytest.mark.parametrize("files", [("a.heic", "b.heic"), ("notes.txt",), ("0001", "0002"), ("a.npy",), ()])
@pytest.mark.parametrize("layout", ["parts", "split"])
def test_a_class_without_readable_images_is_named(tmp_path, files, layout):
    part_folders(tmp_path)
    owl = tmp_path / "train" / "owl"
    owl.mkdir()
    for name in files:
        (owl / name).write_bytes(b"something")
    root, split = (tmp_path, None) if layout == "parts" else (tmp_path / "train", {"train": ["train-cat", "owl"]})
    there = os.path.splitext(files[0])[1] or files[0] if files else "no files"
    with pytest.raises(ValueError, match=rf"owl must hold images, as each class folder does, .*; it has {there}"):
        images(root, split=split)


def test_images_of_other_formats_in_a_class_are_named(tmp_path):
    part_folders(tmp_path)
    for name in ("x.heic", "y.AVIF", "notes.txt"):
        (tmp_path / "train" / "train-cat" / name).write_bytes(b"something")
    with pytest.warns(UserWarning, match=r"2 images are left out, such as .*x\.heic: only the endings"):
        assert len(images(tmp_path).train.x) == 6


@pytest.mark.parametrize("kind", ["symbolic link", "hard link", "link to the folder", "link around in a circle"])
def test_an_image_and_a_link_to_it_are_one(tmp_path, kind):
    part_folders(tmp_path)
    cat = tmp_path / "train" / "train-cat"
    if kind == "symbolic link":
        (cat / "again.png").symlink_to(cat / "0.png")
    elif kind == "hard link":
        os.link(cat / "0.png", cat / "again.png")
    elif kind == "link to the folder":
        draw(cat / "more" / "9.png", pixels(9))
        (cat / "again").symlink_to(cat / "more")
    else:
        (cat / "again").symlink_to(cat)
    x = images(tmp_path).train.x
    assert len(x) == len({image.tobytes() for image in x})


@pytest.mark.parametrize("kind", ["symbolic link", "hard link", "linked folder"])
@pytest.mark.parametrize("part", ["train", "test"])
def test_an_image_in_two_classes_is_an_error(tmp_path, kind, part):
    part_folders(tmp_path)
    first, other = tmp_path / "train" / "train-cat", tmp_path / part / f"{part}-dog"
    if kind == "symbolic link":
        (other / "9.png").symlink_to(first / "0.png")
    elif kind == "hard link":
        os.link(first / "0.png", other / "9.png")
    else:
        shutil.rmtree(other)
        other.symlink_to(first)
    with pytest.raises(ValueError, match=rf"of class {part}-dog, must not be the same file as .*of class train-cat"):
        images(tmp_path)


def test_linked_folders_of_images_are_read(tmp_path):
    part_folders(tmp_path / "real")
    root = tmp_path / "root"
    for part in PARTS.values():
        for kind in ("cat", "dog"):
            (root / part / f"{part}-{kind}").mkdir(parents=True)
            (root / part / f"{part}-{kind}" / "images").symlink_to(tmp_path / "real" / part / f"{part}-{kind}")
    np.testing.assert_array_equal(images(root).train.x, images(tmp_path / "real").train.x)


@pytest.mark.parametrize("layout", ["folders", "csv", "npz"])
def test_a_class_that_is_too_small_is_called_by_its_name(tmp_path, layout):
    part_folders(tmp_path)
    (tmp_path / "train" / "train-dog" / "2.png").unlink()
    if layout == "csv":
        rows = [f"train/train-{kind}/{i}.png,train-{kind}" for kind, n in (("cat", 3), ("dog", 2)) for i in range(n)]
        (tmp_path / "train.csv").write_text("\n".join(["filename,label", *rows]))
    elif layout == "npz":
        y = np.array(["train-cat"] * 3 + ["train-dog"] * 2)
        np.savez(tmp_path / "train.npz", x=np.zeros((5, 8, 8, 3), np.uint8), y=y)
    with pytest.raises(ValueError, match=r'must be at most 2, .* of class "?train-dog'):
        _ = images(tmp_path, queries=2).train
